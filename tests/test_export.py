"""The twins in a tokenizer.json: the same ids on any text, the same text for any ids."""

import json
import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from wikigpt.errors import UserError
from wikigpt.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    SentencePieceTokenizer,
)
from wikigpt.tokenizers.char import END_OF_TEXT
from wikigpt.tokenizers.patterns import FRENCH, GPT2, GPT4, SETTLED

SAMPLE = "L’été, à Nîmes : « 25 °C » l'homme qu'elle aime aujourd'hui, c'est l'été. " * 3
SPECIAL = ("<|user says|>", "<|x|>")
CUSTOM = r" ?\d+|[a-z]+(?:'|’)?"  # does not match everything
WORDS = r"\w+|[^\w\s]+|\s+|^é"  # read otherwise by `regex`
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
settled_text = st.from_regex(f"[{SETTLED}]*", fullmatch=True)
tricky_text = st.lists(
    st.sampled_from(
        [END_OF_TEXT, *SPECIAL, "<", "<0x41>", " ", "\n", "é", "字", "Ġ", "l'", "\u00a0"]
    )
).map("".join)


def make(kind):
    if kind == "char":
        return CharTokenizer.train([SAMPLE])
    if kind == "byte":
        return ByteTokenizer()
    if kind == "sentencepiece":
        return SentencePieceTokenizer.train([SAMPLE], 290, "bpe")
    return BPETokenizer.train([SAMPLE, "30 km² " * 3], 290, kind, SPECIAL)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """kind -> (ours, its twin as AutoTokenizer loads it, from a folder that holds a model)."""
    made = {}
    kinds = ("char", "byte", "sentencepiece", FRENCH, GPT2, GPT4, CUSTOM, WORDS)
    for i, kind in enumerate(kinds):
        folder = tmp_path_factory.mktemp("model")
        ours = make(kind)
        ours.to_hub(model_max_length=256).save_pretrained(folder)
        if model := [None, "gpt2", "qwen3"][i % 3]:
            (folder / "config.json").write_text(json.dumps({"model_type": model}))
        made[kind] = ours, AutoTokenizer.from_pretrained(folder), folder
    return made


def ids_of(twin, text):
    return twin(text).input_ids


@pytest.mark.parametrize("kind", ["char", "byte", "sentencepiece", FRENCH, CUSTOM, WORDS])
@given(text=unicode_text | tricky_text)
def test_ids_are_the_same_on_any_text(twins, kind, text):
    ours, twin, _ = twins[kind]
    ids = ours.encode(text)
    assert ids_of(twin, text) == ids
    assert twin.decode(ids) == text


@pytest.mark.parametrize("kind", [GPT2, GPT4], ids=["gpt2", "gpt4"])
@given(text=settled_text | tricky_text)
def test_ids_are_the_same_in_settled_characters(twins, kind, text):
    ours, twin, _ = twins[kind]
    ids = ours.encode(text)
    assert ids_of(twin, text) == ids
    assert twin.decode(ids) == ours.decode(ids) == text


@given(st.lists(st.integers(0, 289)))
def test_any_ids_become_the_same_text(twins, ids):
    ours, twin, _ = twins[FRENCH]
    assert twin.decode(ids) == ours.decode(ids)


def test_the_twin_is_ready_for_a_model_folder(twins):
    for ours, twin, _ in twins.values():
        assert twin.eos_token_id == ours.end_of_text_id == 0
        assert twin.decode([0]) == END_OF_TEXT
        assert len(twin) == ours.vocab_size
        assert twin.model_max_length == 256
        assert twin.pad_token is None
        assert ids_of(twin, END_OF_TEXT) == ours.encode(END_OF_TEXT) != [0]


def test_special_tokens_keep_their_ids_and_names(twins):
    ours, twin, folder = twins[FRENCH]
    for token in SPECIAL:
        assert twin.convert_tokens_to_ids(token) == ours.special_id(token)
        assert twin.decode([ours.special_id(token)]) == token
    assert BPETokenizer.from_hub(folder).special_tokens == {
        END_OF_TEXT: 0, "<|user says|>": 1, "<|x|>": 2,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [FRENCH, GPT2, GPT4, CUSTOM, WORDS])
def test_the_file_becomes_the_tokenizer_again(twins, kind):
    ours, _, folder = twins[kind]
    assert BPETokenizer.from_hub(folder).fingerprint == ours.fingerprint
    assert BPETokenizer.from_hub(folder / "tokenizer.json").fingerprint == ours.fingerprint


def test_a_vocabulary_laid_out_like_gpt2s_is_read(tmp_path):
    """End-of-text comes last there, and ByteLevel brings the pattern."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    theirs.train_from_iterator([SAMPLE], trainer)
    theirs.add_special_tokens([END_OF_TEXT])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.from_hub(tmp_path)
    assert (ours.pattern, ours.vocab_size, ours.end_of_text_id) == (GPT2, 301, 300)
    for text in (SAMPLE, "Qu'est-ce  que c'est ? 東京"):
        assert ours.encode(text) == theirs.encode(text).ids == ours.bulk_encoder()(text)
        assert ours.decode(ours.encode(text)) == text


@given(text=st.text(SAMPLE) | unicode_text)
def test_characters_with_no_token_stop_both(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "strict"
    ours = CharTokenizer.train([SAMPLE], unseen="error")
    if not folder.exists():
        ours.to_hub().save_pretrained(folder)
    twin = AutoTokenizer.from_pretrained(folder)
    if set(text) <= set(SAMPLE):
        assert ids_of(twin, text) == ours.encode(text)
        assert twin.decode(ours.encode(text)) == text
    else:
        with pytest.raises(Exception, match="WordLevel error: Missing"):
            twin(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Unigram"}}, "its model is Unigram, not BPE"),
        ({"normalizer": {"type": "NFC"}}, "it normalises the text"),
        ({"pre_tokenizer": None}, "it cuts text in another way"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "in another way"),
        ({"post_processor": {"special_tokens": {"<s>": {}}}}, "it adds special tokens"),
        ({"added_tokens": []}, "its ids are not those"),
        ({"added_tokens": [{"content": "a", "id": 0, "special": False}]}, "which is not special"),
        ({"model": "BPE"}, "is damaged"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}, "is damaged"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.1}}, "sets dropout"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_sentence(twins, tmp_path, change, message):
    _, _, folder = twins[FRENCH]
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(file | change), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        BPETokenizer.from_hub(tmp_path)


def test_a_missing_or_broken_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"There is no .*tokenizer\.json"):
        BPETokenizer.from_hub(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        BPETokenizer.from_hub(tmp_path)

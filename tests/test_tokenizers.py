"""What all tokenizers share: training as the config says, on a fair sample, into shards."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny_config
from wikigpt.blocks.prepare import prepare
from wikigpt.config import TokenizerConfig, load_config
from wikigpt.corpus.reading import Rejects, read_articles, split_of
from wikigpt.errors import UserError
from wikigpt.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    NaiveBPETokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
    sample_evenly,
    train_tokenizer,
)
from wikigpt.tokenizers.patterns import GPT2

TEXTS = ["L’été, à Nîmes : « 25 °C »", "l'homme qu'elle aime aujourd'hui, c'est l'été."] * 60
TINY = {
    "char": {"min_count": 2},
    "byte": {"min_count": None},
    "bpe": {"min_count": None, "tokenizer.vocab_size": 300},
    "sentencepiece": {"min_count": None, "tokenizer.vocab_size": 400},
}


# What each wrote, and the fingerprint that shards remember, before the five had a base in common.
WRITTEN = {
    "char": (
        CharTokenizer("été ’", "error"),
        {"kind": "char", "unseen": "error", "characters": " té’"},
        "6b17d63648c98da768a660e8cae1938785a31b2cd6f8ef8093981877ef5da877",
    ),
    "byte": (
        ByteTokenizer(),
        {"kind": "byte"},
        "1c31626f568a075d2fd6934828ba678fe64655ef4e78e42c49367cbbfcaf42f5",
    ),
    "naive-bpe": (
        NaiveBPETokenizer([(1, 2), (257, 3)], "[a-z]+|[^a-z]+"),
        {"kind": "naive-bpe", "pattern": "[a-z]+|[^a-z]+", "merges": [[1, 2], [257, 3]]},
        None,  # it had none, and shards are not made with it
    ),
    "bpe": (
        BPETokenizer([(1, 2), (257, 3)], "gpt2"),
        {
            "kind": "bpe", "pattern": GPT2, "special_tokens": {"<|endoftext|>": 0},
            "merges": [[1, 2], [257, 3]],
        },
        "1491c436625da68d465c713471837f2bd57e70bfbabb1bd9af45cb45ecad2434",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tokenizer", "written", "fingerprint"), WRITTEN.values(), ids=WRITTEN)
def test_files_and_fingerprints_stay_what_they_were(tmp_path, tokenizer, written, fingerprint):
    tokenizer.save(tmp_path)
    path = tmp_path / "vocabulary.json"
    text = json.dumps(written, ensure_ascii=False, indent=2) + "\n"
    assert path.read_bytes() == text.encode()
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert fingerprint in (None, tokenizer.fingerprint)
    # And nothing that decides the ids is made up where it is missing.
    for key in written:
        path.write_text(json.dumps({k: v for k, v in written.items() if k != key}), "utf-8")
        with pytest.raises(UserError, match="damaged"):
            load_tokenizer(tmp_path)
    for kind in {"char", "byte"} - {written["kind"]}:
        path.write_text(text.replace(written["kind"], kind, 1), "utf-8")
        with pytest.raises(UserError, match=f"of kind {kind}, not {written['kind']}"):
            type(tokenizer).load(tmp_path)


def test_a_fingerprint_of_sentencepiece_is_that_of_its_model(tmp_path):
    tokenizer = SentencePieceTokenizer.train(["Une étoile est une étoile."] * 30, 271)
    tokenizer.save(tmp_path)
    model = (tmp_path / "sentencepiece.model").read_bytes()
    assert json.loads((tmp_path / "vocabulary.json").read_text("utf-8")) == {
        "kind": "sentencepiece", "model_type": "unigram", "vocab_size": 271,
        "fingerprint": hashlib.sha256(b"sentencepiece" + model).hexdigest(),
    }  # fmt: skip
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@given(st.lists(st.text("aé", max_size=9)), st.integers(1, 60))
def test_a_sample_is_even_within_the_bound_and_never_the_beginning_only(texts, bound):
    numbered = list(enumerate(texts))
    sizes = [len(text.encode()) for text in texts]
    sample = list(sample_evenly(texts, bound))
    for step in (1, 2, 4, 8, 16, 32, 64, 128):  # the rule, said the other way round
        if sum(sizes[::step]) <= bound or len(texts[::step]) <= 1:
            assert sample == [text for _, text in numbered[::step]]
            break


def test_a_sample_of_a_stream_keeps_little_and_reaches_its_end():
    sample = list(sample_evenly((f"{i:09d}" for i in range(100_000)), 9000))
    numbers = [int(text) for text in sample]
    assert 500 <= len(numbers) <= 1000
    assert numbers[0] == 0 and numbers[-1] > 99_000
    assert len(set(np.diff(numbers))) == 1


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_is_trained_as_the_config_says(kind):
    changes = {"bpe": {"vocab_size": 300}, "sentencepiece": {"vocab_size": 290}}.get(kind, {})
    changes |= {"min_count": 2} if kind == "char" else {}
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, **changes), iter(TEXTS))
    assert tokenizer.kind == kind
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]
    if kind == "bpe":
        assert tokenizer.vocab_size == 300


def test_the_sample_and_the_pattern_of_the_config_are_used():
    texts = ["ab" * 50, "cd" * 50] * 30
    config = TokenizerConfig(kind="bpe", vocab_size=258, sample_bytes=3000, pattern=r"\w+")
    tokenizer = train_tokenizer(config, texts)
    # Every second text and no other: the pair ab, though cd is as frequent in the whole.
    assert tokenizer.tokens[-1] == b"ab"
    assert tokenizer.pattern == r"\w+"
    assert train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), TEXTS).pattern[:2] == " ?"


@pytest.mark.parametrize("kind", TINY)
def test_shards_of_every_kind_hold_the_corpus(small_corpus, tmp_path, kind):
    data = prepare(tiny_config(small_corpus, tmp_path, kind=kind, **TINY[kind]), lambda line: None)
    assert data.tokenizer.kind == kind
    texts = [
        article.text
        for article in read_articles([small_corpus], Rejects())
        if split_of(article.id, 0.05) == "validation"
    ]
    dtype = "<u2" if data.tokenizer.vocab_size <= 2**16 else "<u4"
    tokens = np.concatenate(
        [np.fromfile(path, dtype) for path in sorted(data.folder.glob("*validation*.bin"))]
    )
    end = data.tokenizer.end_of_text_id
    expected = [i for text in texts for i in (*data.tokenizer.encode(text), end)]
    found = tokens.tolist()
    assert found == expected or found == [end, *expected]


def test_a_key_of_another_kind_is_an_error_that_says_so():
    for changes, message in [
        ({"kind": "bpe", "min_count": 5}, r"min_count is for kind char, and kind is bpe; leave it"),
        ({"kind": "byte", "tokenizer.vocab_size": 300}, "for kind bpe and sentencepiece, and kind"),
        ({"kind": "char", "pattern": "gpt2"}, "pattern is for kind bpe, and kind is char"),
        ({"kind": "bpe", "model_type": "bpe"}, "model_type is for kind sentencepiece"),
        ({"kind": "bpe", "sample_bytes": 0}, "sample_bytes"),
        ({"kind": "word"}, "kind"),
        ({"vocab_size": 300}, r"could be tokenizer\.vocab_size or model\.vocab_size; write it"),
    ]:
        with pytest.raises(UserError, match=message):
            load_config(**changes)
    config = load_config("configs/char-gpt.yaml", kind="bpe", min_count=None)
    assert (config.tokenizer.pattern, config.tokenizer.vocab_size) == ("french", 8192)
    assert load_config().tokenizer.min_count == 100

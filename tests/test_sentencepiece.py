import json

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from wikigpt.errors import UserError
from wikigpt.tokenizers import SentencePieceTokenizer, load_tokenizer
from wikigpt.tokenizers import sentencepiece as room

TYPES = ("unigram", "bpe")
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
# What the library treats in its own way by default, or marks its own things with.
TRICKY = [
    "▁", "▅", "\0", "\t", "\r\n", "\n", " ", "  ", "\u00a0", "\u202f", "½", "ﬁ", "…", "\ufeff",
    "\ufffd", "⁇", "<s>", "</s>", "<unk>", "<0x41>", "<0xE2>", "<|endoftext|>", "e\u0301", "l’été",
    "aujourd’hui", "日本", "\U0010ffff",
]  # fmt: skip
tricky_text = st.lists(st.sampled_from(TRICKY) | unicode_text).map("".join)


@pytest.fixture(scope="module")
def texts(leads):
    lines = leads.read_text(encoding="utf-8").splitlines()[::20]
    return [json.dumps(json.loads(line), ensure_ascii=False) for line in lines]


@pytest.fixture(scope="module", params=TYPES)
def tokenizer(request, texts):
    return SentencePieceTokenizer.train(texts, 1500, request.param)


@pytest.fixture(scope="module")
def twin(texts, tmp_path_factory):
    """A bpe model, and what AutoTokenizer makes of its export."""
    folder = tmp_path_factory.mktemp("hub")
    ours = SentencePieceTokenizer.train(texts, 1500, "bpe")
    ours.to_hub().save_pretrained(folder)
    return ours, AutoTokenizer.from_pretrained(folder)


@given(unicode_text | tricky_text)
def test_every_unicode_string_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(1 < i < tokenizer.vocab_size for i in ids)
    assert list(tokenizer.bulk_encoder()(text)) == ids


@pytest.mark.parametrize("model_type", TYPES)
@given(text=tricky_text)
def test_what_training_never_saw_comes_back(text, model_type):
    """No space, no newline, hardly a letter in the training text."""
    tokenizer = bare(model_type)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def bare(model_type, cache={}):  # noqa: B006
    if model_type not in cache:
        cache[model_type] = SentencePieceTokenizer.train(["abab", "abaab"], 262, model_type)
    return cache[model_type]


@given(unicode_text.filter(lambda text: "▁" not in text))
def test_ids_and_text_are_those_of_the_library(tokenizer, text):
    """But for ▁, which the library loses, we neither add nor take anything."""
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    assert tokenizer.encode(text) == library.encode(text)
    assert tokenizer.decode(library.encode(text)) == library.decode(library.encode(text))
    assert library.decode(library.encode("a▁b")) == "a b"


def test_ids_by_hand():
    tokenizer = bare("bpe")
    # Id 2 is byte 0x00; after the bytes come the merge ab, then the characters, a space among them.
    pieces = {tokenizer.decode([i]): i for i in range(258, tokenizer.vocab_size)}
    assert set(pieces) == {"ab", "a", "b", " "} and pieces["ab"] == 258
    assert tokenizer.encode("abé a\0") == [
        258, 2 + 0xC3, 2 + 0xA9, pieces[" "], pieces["a"], 2,
    ]  # fmt: skip
    assert tokenizer.encode("▁") == [2 + 0xE2, 2 + 0x96, 2 + 0x81]
    assert tokenizer.decode([0]) == "<|endoftext|>"


@given(tricky_text | st.text("ab c▁\n") | unicode_text)
def test_auto_tokenizer_gives_the_same_ids(twin, text):
    ours, theirs = twin
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text


def test_the_twin_knows_the_end_of_text_and_real_articles(twin, texts):
    ours, theirs = twin
    assert (theirs.eos_token_id, len(theirs)) == (ours.end_of_text_id, ours.vocab_size)
    assert theirs(texts)["input_ids"] == [ours.encode(text) for text in texts]


@given(
    st.lists(st.text("ab", min_size=1), min_size=5, max_size=30),
    st.lists(st.text("ab", min_size=10), max_size=10),
)
def test_the_twin_breaks_ties_as_the_library_does(corpus, others):
    ours = None
    for size in (290, 275, 266, 263, 261):
        try:
            ours = SentencePieceTokenizer.train(corpus, size, "bpe")
            break
        except UserError:
            continue
    if ours is None:
        return
    theirs = ours.to_hub()
    for text in corpus + others:
        assert theirs(text)["input_ids"] == ours.encode(text)


def test_a_unigram_model_is_not_exported_inexactly():
    with pytest.raises(UserError, match="no exact twin"):
        bare("unigram").to_hub()


def test_save_and_load(tokenizer, tmp_path, texts):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert [loaded.encode(t) for t in texts[:50]] == [tokenizer.encode(t) for t in texts[:50]]
    # The library itself reads the file.
    library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.model"))
    assert library.encode(texts[0]) == tokenizer.encode(texts[0])


def test_damaged_files_are_told(tmp_path):
    bare("bpe").save(tmp_path)
    path = tmp_path / "sentencepiece.model"
    content = path.read_bytes()
    for damage in (content[:-1], b"", content[:300] + b"\xff" + content[301:]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="damaged"):
            load_tokenizer(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"There is no .*sentencepiece\.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocabulary.json").write_text('{"kind": "sentencepiece"}', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_same_texts_give_the_same_model(texts, model_type, monkeypatch):
    few = texts[:150]
    twice = {SentencePieceTokenizer.train(few, 400, model_type).model for _ in range(2)}
    assert len(twice) == 1
    # Also when the trainer draws a sample; and the sample reaches to the end of the texts.
    monkeypatch.setattr(room, "CHUNKS", 150)
    few += ["Straßenbahnhöfe"] * len(few)
    sampled = [SentencePieceTokenizer.train(few, 400, model_type) for _ in range(2)]
    assert sampled[0].model == sampled[1].model and sampled[0].model not in twice
    assert not sampled[0].unseen_in("Straßenbahnhöfe")


@pytest.mark.parametrize("model_type", TYPES)
def test_no_text_is_skipped(model_type):
    """Long lines, and lines with ▅, which the library would drop without a word."""
    long, other = "zyzzyva " * 20_000, "▅ baobab " * 50_000
    tokenizer = SentencePieceTokenizer.train([long + other], 268, model_type)
    assert not tokenizer.unseen_in("zyzzyva baobab")
    assert tokenizer.unseen_in("z▅y▁é é") == "▅▁é"


def test_chunks_lose_nothing_but_what_they_are_cut_at():
    text = "un deux trois " * 300 + "\n\n" + "x" * 2500 + "▁a▅ b\n"
    chunks = [chunk.decode() for chunk in room._chunks([text], [])]
    assert "".join(chunks) == text.translate({ord(c): None for c in "\n▁▅"})
    assert max(map(len, chunks)) == room.CHUNK_CHARACTERS
    words = [word for chunk in chunks[:4] for word in chunk.split()]
    assert set(words) == {"un", "deux", "trois"}


@pytest.mark.parametrize("model_type", TYPES)
def test_a_vocabulary_that_does_not_fit_the_text_is_told(model_type, texts):
    with pytest.raises(UserError, match=r"supports at most (\d+) sentencepiece tokens, not 9000"):
        SentencePieceTokenizer.train(["le chat est là"], 9000, model_type)
    with pytest.raises(UserError, match="vocab_size=260 is too small"):
        SentencePieceTokenizer.train(texts, 260, model_type)
    for bad in ({"vocab_size": 0}, {"character_coverage": 0.5}):
        with pytest.raises(UserError, match="could not be trained"):
            SentencePieceTokenizer.train(texts, **bad)
    with pytest.raises(UserError, match="model_type is 'char'; it can be unigram or bpe"):
        SentencePieceTokenizer.train(texts, 300, "char")


def test_an_empty_or_failing_corpus_is_told():
    for empty in ([], [""], ["\n\n"]):
        with pytest.raises(UserError, match="empty"):
            SentencePieceTokenizer.train(empty, 300)
    with pytest.raises(UserError, match=r"U\+D800 is a lone surrogate"):
        SentencePieceTokenizer.train(["a\ud800"], 300)

    def failing():
        yield "le chat"
        raise ZeroDivisionError("in the corpus")

    with pytest.raises(ZeroDivisionError, match="in the corpus"):
        SentencePieceTokenizer.train(failing(), 300)


def test_what_can_not_be_encoded_or_decoded_is_told():
    tokenizer = bare("bpe")
    for text in ("a\ud800", "▁\udfff"):
        with pytest.raises(UserError, match="lone surrogate"):
            tokenizer.encode(text)
    for outside in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match="outside the vocabulary of 262"):
            tokenizer.decode([outside])
    assert tokenizer.decode([2 + 0xC3, 258, 1]) == "\ufffdab\ufffd"

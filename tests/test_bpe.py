"""BPETokenizer against `tokenizers`, against the naive recount, and against itself."""

import itertools
import json
import multiprocessing
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from wikigpt.errors import UserError
from wikigpt.tokenizers import BPETokenizer, NaiveBPETokenizer, load_tokenizer
from wikigpt.tokenizers import bpe as bpe_module
from wikigpt.tokenizers.bpe_trainer import learn_merges
from wikigpt.tokenizers.char import END_OF_TEXT
from wikigpt.tokenizers.counting import count_pieces
from wikigpt.tokenizers.patterns import FRENCH, GPT2, GPT4

SAMPLE = "L’été, à Nîmes : « 25 °C » l'homme qu'elle aime aujourd'hui, c'est l'été. " * 3
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
# Few letters and words that repeat: at every merge many pairs are equally frequent.
ties = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=6) | st.lists(
    st.sampled_from(["aaaa", "aaaaa", "abab", "ababa", "aab", "baa", "ab é", "éé", " ", "km² m²"]),
    max_size=9,
)


def by_tokenizers(texts, vocab_size: int, pattern: str, special=()) -> tuple[list, dict]:
    """Merges as pairs of ids, and the vocabulary, as `tokenizers` learns them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return [(ids[left], ids[right]) for left, right in model["merges"]], ids


def largest(texts, pattern) -> BPETokenizer:
    """The tokenizer of which no more can be learnt."""
    try:
        return BPETokenizer.train(texts, 2**20, pattern)
    except UserError as error:
        return BPETokenizer.train(
            texts, int(str(error).split(" tokens at most")[0].split()[-1]), pattern
        )


@given(ties, st.sampled_from([GPT2, FRENCH, r"[\s\S]+", r"\w+|[^\w\s]+|\s+"]))
def test_every_merge_is_that_of_tokenizers_and_of_the_naive_recount(texts, pattern):
    ours = largest(texts, pattern)
    theirs, vocabulary = by_tokenizers(texts, ours.vocab_size, pattern)
    assert ours.merges == theirs
    assert ours.vocab_size == len(vocabulary)
    naive = NaiveBPETokenizer.train(texts, ours.vocab_size, pattern)
    assert ours.merges == naive.merges
    assert ours.tokens == naive.tokens
    for text in texts:
        ids = naive.encode(text)
        assert ours.encode(text) == ids
        assert ours.bulk_encoder()(text) == ids


@given(st.dictionaries(st.binary(min_size=1, max_size=8), st.integers(1, 3), max_size=6))
def test_learnt_from_any_bytes_as_by_counting_anew(pieces):
    words = [[1 + byte for byte in piece] for piece in pieces for _ in range(pieces[piece])]
    expected = []
    for new_id in itertools.count(257):
        counts = Counter(pair for ids in words for pair in itertools.pairwise(ids))
        if not counts:
            break
        best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[0][0]
        expected.append(best)
        words = [join(ids, best, new_id) for ids in words]
    assert learn_merges(pieces, list(range(1, 257)), 257, 10**6) == expected


def join(ids, pair, new_id):
    text = ",".join(f"{i}." for i in ids)  # each id ends in a dot, so 1 never matches in 11
    text = f",{text}".replace(f",{pair[0]}.,{pair[1]}.", f",{new_id}.")
    return [int(i.rstrip(".")) for i in text.split(",") if i]


def test_by_hand():
    # "ab" occurs 4 times, "abab" twice; then "b " and " a" are left, once each, and so on.
    tokenizer = BPETokenizer.train(["abab", "abab"], 259, r"[\s\S]+")
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    assert (a, b) == (1 + ord("a") - ord("!"), 1 + ord("b") - ord("!"))
    assert tokenizer.merges == [(a, b), (257, 257)]
    assert tokenizer.encode("ababab") == [258, 257]
    assert tokenizer.tokens[:2] == [b"<|endoftext|>", b"!"] and tokenizer.tokens[258] == b"abab"


@pytest.fixture(scope="module")
def articles(leads):
    lines = leads.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["abstract"] for line in lines]


@pytest.mark.parametrize("size", [500, 2000, 8192])
def test_on_the_leads_corpus_the_merges_are_those_of_tokenizers(articles, size):
    pattern = GPT2 if size == 2000 else FRENCH
    ours = BPETokenizer.train(articles, size, pattern)
    theirs, vocabulary = by_tokenizers(articles, size, pattern)
    assert ours.merges == theirs
    assert ours.to_hub().get_vocab() == vocabulary
    assert len(vocabulary) == ours.vocab_size == size
    bulk = ours.bulk_encoder()
    assert bulk != ours.encode  # it is tiktoken
    for text in articles[::20]:
        assert bulk(text) == ours.encode(text)


def test_more_special_tokens_come_first_as_in_tokenizers():
    special = ["<|user says|>", "<|x|>"]
    ours = BPETokenizer.train([SAMPLE], 290, FRENCH, special)
    theirs, vocabulary = by_tokenizers([SAMPLE], 290, FRENCH, special)
    assert ours.merges == theirs
    assert ours.to_hub().get_vocab() == vocabulary


def test_several_processes_count_the_same(articles):
    texts = articles[:300]
    alone = count_pieces(texts, GPT2, processes=1)
    assert alone == count_pieces(iter(texts), GPT2, processes=2, chunk_characters=1000)
    assert alone == Counter(piece for text in texts for piece in bpe_module.splitter(GPT2)(text))


def test_a_counting_process_that_dies_is_told_and_none_is_left():
    def texts():
        for number in range(60):
            if number == 50:
                for process in multiprocessing.active_children():
                    process.kill()
            yield "un mot " * 100

    with pytest.raises(UserError, match="A process that was counting words died"):
        count_pieces(texts(), GPT2, processes=2, chunk_characters=500)
    assert multiprocessing.active_children() == []


def test_texts_that_can_not_be_read_on_leave_no_process():
    def texts():
        yield from ["un mot " * 100] * 20
        raise UserError("the file is damaged")

    with pytest.raises(UserError, match="the file is damaged"):
        count_pieces(texts(), GPT2, processes=2, chunk_characters=500)
    assert multiprocessing.active_children() == []


@pytest.fixture(scope="module")
def trained(articles):
    tokenizers = {p: BPETokenizer.train(articles[:500], 1000, p) for p in (GPT2, GPT4, FRENCH)}
    return {p: (tokenizer, tokenizer.bulk_encoder()) for p, tokenizer in tokenizers.items()}


# Also what meets in real text: spaces of all kinds, apostrophes, digits, marks, repeated letters.
any_text = unicode_text | st.text("ae é'’ql\u00a0\u202f«»:10\n😀e\u0301<|>", max_size=60)


@pytest.mark.parametrize("pattern", [GPT2, GPT4, FRENCH], ids=["gpt2", "gpt4", "french"])
@given(text=any_text)
def test_every_unicode_string_comes_back_and_the_fast_twin_agrees(trained, pattern, text):
    tokenizer, bulk = trained[pattern]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text_id not in ids
    assert bulk(text) == ids
    assert tokenizer.unseen_in(text) == ""


@given(text=any_text, custom=st.sampled_from([r"\s+", r"[a-z]", "(l)('|’)", FRENCH]))
def test_save_and_load_change_nothing(tmp_path_factory, text, custom):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = BPETokenizer.train([SAMPLE], 280, custom, ["<|user says|>", " <x> "])
    tokenizer.save(folder)
    loaded = load_tokenizer(folder)
    assert loaded.fingerprint == tokenizer.fingerprint
    ids = tokenizer.encode(text)
    assert loaded.encode(text) == loaded.bulk_encoder()(text) == ids
    assert loaded.decode(ids) == text
    assert loaded.special_tokens == {END_OF_TEXT: 0, "<|user says|>": 1, " <x> ": 2}
    assert loaded.decode([2, *ids, 1]) == f" <x> {text}<|user says|>"


def test_a_special_token_that_is_written_out_is_ordinary_text(trained):
    tokenizer, bulk = trained[FRENCH]
    assert tokenizer.end_of_text_id == tokenizer.special_id(END_OF_TEXT) == 0
    for encode in (tokenizer.encode, bulk):
        ids = encode(f"fin{END_OF_TEXT}")
        assert 0 not in ids and tokenizer.decode(ids) == f"fin{END_OF_TEXT}"
    assert tokenizer.decode([0]) == END_OF_TEXT
    with pytest.raises(UserError, match=r"'<\|x\|>' is not a special token .* has '<\|endof"):
        tokenizer.special_id("<|x|>")


def test_the_word_cache_is_bounded_and_changes_nothing(trained, monkeypatch):
    monkeypatch.setattr(bpe_module, "_CACHED_PIECES", 3)
    tokenizer = BPETokenizer.train([SAMPLE], 280)
    expected = tokenizer.encode(SAMPLE)
    assert tokenizer.encode(SAMPLE) == expected
    assert len(tokenizer._pieces) <= 3
    before = len(tokenizer._pieces)
    tokenizer.encode("l" * 1000)
    assert len(tokenizer._pieces) == before  # a long piece takes no place


@given(st.text("abé", min_size=60, max_size=300))
def test_long_pieces_are_merged_by_the_same_rule(piece):
    tokenizer = largest(["abababab aaaaaaaa ééé baab", "abé", "bab"], GPT2)
    naive = NaiveBPETokenizer(tokenizer.merges, GPT2)
    assert tokenizer.encode(piece) == naive.encode(piece) == tokenizer.bulk_encoder()(piece)


@pytest.mark.parametrize("text", [" " * 10**6, "a" * 10**6, "é!" * 10**5, "\n " * 10**5])
@pytest.mark.parametrize("pattern", [GPT2, GPT4, FRENCH], ids=["gpt2", "gpt4", "french"])
def test_a_million_of_the_same_is_no_trouble(trained, pattern, text):
    tokenizer, bulk = trained[pattern]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert list(bulk(text)) == ids


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), unique=True, max_size=12),
    any_text,
)
def test_merges_that_no_training_would_learn_are_encoded_by_our_own_encoder(pairs, text):
    """tiktoken would merge pairs that are not listed, so it is only used where that can't be."""
    merges = []
    for left, right in pairs:
        a, b = (1 + (i - 1) % (256 + len(merges)) for i in (left, right))
        if (a, b) not in merges:
            merges.append((a, b))
    tokenizer = BPETokenizer(merges, FRENCH)
    assert list(tokenizer.bulk_encoder()(text)) == tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_such_merges_are_recognised():
    a, b, c = (BPETokenizer([]).encode(letter)[0] for letter in "abc")
    # "abc" is made of (a, bc); but ab is merged first, so it never is.
    odd = BPETokenizer([(a, b), (b, c), (a, 258)])
    assert odd.encode("abc") == [257, c]
    assert odd.bulk_encoder() == odd.encode
    twice = BPETokenizer([(b, c), (a, b), (a, 257), (258, c)])  # both are "abc"
    assert twice.bulk_encoder() == twice.encode


def test_what_can_not_be_trained_is_told():
    with pytest.raises(UserError, match=r"a vocabulary of 259 tokens at most, not 300; lower"):
        BPETokenizer.train(["abab"], 300, r"[\s\S]+")
    assert BPETokenizer.train(["abab"], 259, r"[\s\S]+").vocab_size == 259
    with pytest.raises(UserError, match="of 257 tokens at most"):
        BPETokenizer.train([], 258)
    with pytest.raises(UserError, match="of 256 tokens is too small"):
        BPETokenizer.train([SAMPLE], 256)
    assert BPETokenizer.train([], 257).encode("a") == [1 + ord("a") - ord("!")]
    with pytest.raises(UserError, match=r"2 special tokens and 256 bytes make 258; raise"):
        BPETokenizer.train([SAMPLE], 257, special_tokens=["<|x|>"])
    with pytest.raises(UserError, match="U\\+D800 is a lone surrogate"):
        BPETokenizer.train(["a\ud800"], 300)
    with pytest.raises(UserError, match="is not a regular expression"):
        BPETokenizer.train([SAMPLE], 300, "[")
    with pytest.raises(UserError, match="written in ASCII"):
        BPETokenizer.train([SAMPLE], 300, special_tokens=["<é>"])
    with pytest.raises(UserError, match="'ab' is an ordinary token too"):
        BPETokenizer.train(["abab"], 260, r"[\s\S]+", special_tokens=["ab"])


def test_what_can_not_be_encoded_or_decoded_is_told(trained):
    tokenizer, bulk = trained[FRENCH]
    for encode in (tokenizer.encode, bulk):
        with pytest.raises(UserError, match="U\\+DC00 is a lone surrogate"):
            encode("a\udc00")
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match=f"Id {wrong} is outside the vocabulary of 1000 tokens"):
            tokenizer.decode([5, wrong])
    # One U+FFFD for each broken character, as in Unicode's recommendation; also at a special token.
    c3, e6, b0 = (tokenizer._byte_ids[byte] for byte in (0xC3, 0xE6, 0xB0))
    assert tokenizer.decode([c3, *tokenizer.encode("t")]) == "\ufffdt"
    assert tokenizer.decode([e6, b0, 0, b0]) == f"\ufffd{END_OF_TEXT}\ufffd"


SAVED = {"kind": "bpe", "pattern": "a", "special_tokens": {END_OF_TEXT: 0}, "merges": []}


@pytest.mark.parametrize(
    "change",
    [
        {"merges": [[1, 400]]}, {"merges": [[0, 1]]}, {"merges": [[1, 257]]}, {"merges": [[1]]},
        {"merges": [[1, 2], [1, 2]]}, {"merges": None}, {"merges": [["a", "b"]]}, {"pattern": "["},
        {"special_tokens": {END_OF_TEXT: 999}}, {"special_tokens": {"<|x|>": 0}},
        {"special_tokens": {END_OF_TEXT: 0, "<|x|>": 0}}, {"special_tokens": [1]},
        {"special_tokens": {}}, {"pattern": None},
    ],
)  # fmt: skip
def test_a_damaged_file_is_told(tmp_path, change):
    (tmp_path / "vocabulary.json").write_text(json.dumps(SAVED), encoding="utf-8")
    assert load_tokenizer(tmp_path).vocab_size == 257
    (tmp_path / "vocabulary.json").write_text(json.dumps(SAVED | change), encoding="utf-8")
    with pytest.raises(UserError, match=r"vocabulary\.json is damaged"):
        load_tokenizer(tmp_path)

"""BPETokenizer against `tokenizers`, against the naive recount, and against itself."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from wikigpt.errors import UserError
from wikigpt.tokenizers import BPETokenizer, NaiveBPETokenizer
from wikigpt.tokenizers import bpe as bpe_module
from wikigpt.tokenizers.bpe_trainer import learn_merges
from wikigpt.tokenizers.char import END_OF_TEXT
from wikigpt.tokenizers.counting import count_pieces
from wikigpt.tokenizers.patterns import FRENCH, GPT2, GPT4

SAMPLE = "L’été, à Nîmes : « 25 °C » l'homme qu'elle aime aujourd'hui, c'est l'été. " * 3
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
# Few letters and words that repeat: at every merge many pairs are equally frequent.
ties = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=6) | st.lists(
    st.sampled_from(["aaaa", "aaaaa", "abab", "ababa", "aab", "baa", "ab é", "éé", " "]), max_size=9
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


@given(ties, st.sampled_from([GPT2, FRENCH, r"[\s\S]+"]))
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
    assert len(vocabulary) == ours.vocab_size == size
    bulk = ours.bulk_encoder()
    assert bulk != ours.encode  # it is tiktoken
    for text in articles[::20]:
        assert bulk(text) == ours.encode(text)


def test_several_processes_count_the_same(articles):
    texts = articles[:300]
    alone = count_pieces(texts, GPT2, processes=1)
    assert alone == count_pieces(iter(texts), GPT2, processes=2, chunk_characters=5000)
    assert alone == Counter(piece for text in texts for piece in bpe_module.splitter(GPT2)(text))


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

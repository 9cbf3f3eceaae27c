import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.tokenizers import NaiveBPETokenizer, load_tokenizer
from wikigpt.tokenizers.naive_bpe import BYTE_ORDER, merge
from wikigpt.tokenizers.patterns import FRENCH, splitter

SAMPLE = "L’été, l'été, les étés : « l'été »."
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_example_of_the_textbooks():
    """aaabdaaabac: aa is merged first, then the pairs that are equally frequent by their ids."""
    tokenizer = NaiveBPETokenizer.train(["aaabdaaabac"], 260)
    a, b, c, d = (1 + ord(letter) - ord("!") for letter in "abcd")
    # aa 4 times (windows overlap); then (a, b) 2 times, before (aa, a) and (aa, ab): smaller ids.
    assert tokenizer.merges == [(a, a), (a, b), (257, 258)]
    assert tokenizer.encode("aaabdaaabac") == [259, d, 259, a, c]
    assert tokenizer.tokens[259] == b"aaab"


def test_merge_goes_from_left_to_right():
    assert merge([1, 1, 1, 2], (1, 1), 9) == [9, 1, 2]
    assert merge([1, 2, 1, 2], (1, 2), 9) == [9, 9]
    assert merge([], (1, 2), 9) == []


def test_bytes_are_in_the_order_of_tokenizers():
    assert sorted(BYTE_ORDER) == list(range(256))
    assert BYTE_ORDER[:3] == b'!"#' and BYTE_ORDER[-1] == 0xAD


@given(unicode_text, st.sampled_from([r"[\s\S]+", FRENCH]))
def test_every_unicode_string_comes_back_after_save_and_load(tmp_path_factory, text, pattern):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = NaiveBPETokenizer.train([SAMPLE], 270, pattern)
    tokenizer.save(folder)
    loaded = load_tokenizer(folder)
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text


def test_no_token_crosses_a_cut():
    def cut(tokenizer):
        texts = [token.decode(errors="replace") for token in tokenizer.tokens[257:]]
        whole = [text for text in texts if "\ufffd" not in text]
        return [text for text in whole if len(splitter(FRENCH)(text)) > 1]

    assert cut(NaiveBPETokenizer.train([SAMPLE], 272))
    assert not cut(NaiveBPETokenizer.train([SAMPLE], 272, FRENCH))


def test_the_name_of_a_pattern_stands_for_it():
    text = "le chat french"
    named = NaiveBPETokenizer.train([text], 262, "french")
    assert named.merges == NaiveBPETokenizer.train([text], 262, FRENCH).merges
    assert (named.pattern, named.vocab_size) == (FRENCH, 262)


def test_what_makes_no_sense_is_told():
    with pytest.raises(UserError, match="of 256 tokens is too small"):
        NaiveBPETokenizer.train([SAMPLE], 256)
    with pytest.raises(UserError, match=r"U\+D800 is a lone surrogate"):
        NaiveBPETokenizer.train(["a\ud800"], 257)
    tokenizer = NaiveBPETokenizer.train([SAMPLE], 260)
    for outside in (-1, 260):
        with pytest.raises(UserError, match="outside the vocabulary of 260"):
            tokenizer.decode([1, outside])


def test_too_many_tokens_for_the_text_are_told():
    with pytest.raises(UserError, match="nothing left to merge; ask for at most 259"):
        NaiveBPETokenizer.train(["abab"], 300)

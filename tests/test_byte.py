import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.tokenizers import ByteTokenizer, load_tokenizer
from wikigpt.tokenizers.char import END_OF_TEXT, CharTokenizer

TWIN = ByteTokenizer().to_hub()
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(unicode_text)
def test_every_unicode_string_comes_back(text):
    tokenizer = ByteTokenizer.train([])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert list(tokenizer.bulk_encoder()(text)) == ids
    # A character tokenizer that knows no character spells in the same bytes.
    assert ids == CharTokenizer("").encode(text)


def test_ids_by_hand():
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("aé€\0") == [98, 0xC4, 0xAA, 0xE3, 0x83, 0xAD, 1]
    assert tokenizer.encode("") == []
    assert (tokenizer.vocab_size, tokenizer.end_of_text_id) == (257, 0)


def test_the_end_of_text_literal_in_a_text_is_ordinary_bytes():
    tokenizer = ByteTokenizer()
    assert 0 not in tokenizer.encode(END_OF_TEXT) and len(tokenizer.encode(END_OF_TEXT)) == 13
    assert tokenizer.decode([98, 0, 99]) == "a" + END_OF_TEXT + "b"


def test_what_can_not_be_encoded_or_decoded_is_told():
    tokenizer = ByteTokenizer()
    with pytest.raises(UserError, match=r"U\+D800 is a lone surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(UserError, match="lone surrogate"):
        tokenizer.bulk_encoder()("\udfff")
    for outside in (257, -1):
        with pytest.raises(UserError, match="outside the vocabulary of 257"):
            tokenizer.decode([outside])
    assert tokenizer.decode([1 + 0xC3, 1 + ord("t")]) == "\ufffdt"


def test_save_and_load(tmp_path):
    ByteTokenizer().save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, ByteTokenizer)
    assert loaded.encode("été") == ByteTokenizer().encode("été")
    assert loaded.fingerprint == ByteTokenizer().fingerprint != CharTokenizer("a").fingerprint
    CharTokenizer("a").save(tmp_path)
    with pytest.raises(UserError, match="of kind char, not byte"):
        ByteTokenizer.load(tmp_path)


@given(unicode_text)
def test_the_export_gives_the_same_ids(text):
    assert TWIN(text)["input_ids"] == ByteTokenizer().encode(text)
    assert TWIN.eos_token_id == 0 and len(TWIN) == 257

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.tokenizers import CharTokenizer, load_tokenizer
from wikigpt.tokenizers.char import END_OF_TEXT

SAMPLE = "L’été, à Nîmes : « 25 °C »\n"
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(unicode_text)
def test_every_unicode_string_comes_back(text):
    tokenizer = CharTokenizer.train([SAMPLE])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 < i < tokenizer.vocab_size for i in ids)


@given(unicode_text, unicode_text)
def test_save_and_load_change_nothing(tmp_path_factory, sample, text):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = CharTokenizer.train([sample, SAMPLE])
    tokenizer.save(folder)
    loaded = load_tokenizer(folder)
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.decode(loaded.encode(text)) == text


@given(st.text(), unicode_text, st.sampled_from(["bytes", "error"]))
def test_the_bulk_encoder_gives_the_same_ids_and_the_same_errors(text, sample, unseen):
    tokenizer = CharTokenizer.train([sample, SAMPLE], unseen=unseen)
    encode = tokenizer.bulk_encoder()
    # Where UTF-8 begins to take two, three and four bytes.
    borders = "\x7f\x80\u07ff\u0800\uffff\U00010000"
    for case in (text, SAMPLE + text, sample + "\U0010ffffж" * 2, borders):
        try:
            expected = tokenizer.encode(case)
        except UserError as error:
            with pytest.raises(UserError) as caught:
                encode(case)
            assert str(caught.value) == str(error)
        else:
            assert encode(case).tolist() == expected


def test_ids_by_hand():
    tokenizer = CharTokenizer.train(["cab", "b"])
    assert tokenizer.encode("abc") == [257, 258, 259]
    assert tokenizer.encode("é") == [1 + 0xC3, 1 + 0xA9]
    assert tokenizer.vocab_size == 1 + 256 + 3
    plain = CharTokenizer.train(["cab", "b"], unseen="error")
    assert (plain.encode("abc"), plain.vocab_size) == ([1, 2, 3], 4)


def test_min_count_decides_who_gets_a_token():
    assert CharTokenizer.train(["aab", "ab", "c"], min_count=2).characters == ["a", "b"]
    with pytest.raises(UserError, match=r"lower tokenizer\.min_count"):
        CharTokenizer.train(["aab"], min_count=10)


def test_an_unseen_character_is_an_error_that_names_it():
    tokenizer = CharTokenizer.train(["abc"], unseen="error")
    with pytest.raises(UserError, match=r"'ж' \(U\+0436\) is not in the vocabulary of 3"):
        tokenizer.encode("abж")
    assert CharTokenizer.train(["abc"]).unseen_in("ab жaж!") == " ж!"


def test_the_end_of_text_literal_in_a_text_is_ordinary_characters():
    tokenizer = CharTokenizer.train([SAMPLE])
    ids = tokenizer.encode(END_OF_TEXT)
    assert tokenizer.end_of_text_id not in ids and len(ids) == 13
    assert tokenizer.decode([tokenizer.end_of_text_id]) == END_OF_TEXT


def test_what_can_not_be_encoded_or_decoded_is_told():
    tokenizer = CharTokenizer.train([SAMPLE])
    with pytest.raises(UserError, match="lone surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(UserError, match="lone surrogate"):
        CharTokenizer.train(["a\ud800"])
    with pytest.raises(UserError, match="unseen is 'byte'; a character tokenizer knows bytes and"):
        CharTokenizer("a", unseen="byte")
    with pytest.raises(UserError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])
    assert tokenizer.decode([1 + 0xC3, *tokenizer.encode("t")]) == "\ufffdt"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": "char"}', '{"kind": "x"}'])
def test_a_damaged_or_missing_file_is_told(tmp_path, content):
    with pytest.raises(UserError, match="no tokenizer in"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocabulary.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        load_tokenizer(tmp_path)

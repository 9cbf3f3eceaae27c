import pytest

from wikigpt.corpus.articles import Article, BadRecord, parse_article


def test_the_kaggle_layout():
    record = {
        "name": "Caen",
        "identifier": 42,
        "description": "commune française",
        "abstract": "Caen est une commune.",
        "in_language": {"identifier": "fr"},
        "is_part_of": {"identifier": "frwiki"},
    }
    text = "commune française\nCaen est une commune."
    assert parse_article(record) == Article("frwiki:42", "Caen", text, "fr")


def test_the_hugging_face_layout():
    record = {"id": "7", "url": "…", "title": "Caen", "text": "Caen est une commune."}
    assert parse_article(record) == Article("frwiki:7", "Caen", "Caen est une commune.", "fr")


def test_absent_and_null_values_are_empty():
    assert parse_article({"name": "A", "abstract": "B", "description": None}).text == "B"
    assert parse_article({"name": "A", "description": "B"}).id == "frwiki:A"


def test_characters_stay_but_for_nfc():
    kept = "L’été\u00a0: «\u202fdéjà\u202f» ½ ﬁ …"
    assert parse_article({"name": "A", "abstract": kept}).text == kept
    assert parse_article({"name": "A", "abstract": "e\u0301"}).text == "é"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (["a"], "must be an object, not a list"),
        ({"abstract": "texte"}, "no title"),
        ({"name": "A"}, "no text"),
        ({"name": "A", "abstract": "  "}, "no text"),
        ({"name": 3, "abstract": "texte"}, "name must be text, not int"),
        ({"name": "A", "abstract": ["texte"]}, "abstract must be text, not list"),
        ({"name": "A", "abstract": "\ud83d"}, "lone surrogate"),
    ],
)
def test_a_bad_record_says_why(record, reason):
    with pytest.raises(BadRecord, match=reason):
        parse_article(record)

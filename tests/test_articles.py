import hashlib
import json
import math

import pytest

from conftest import ROOT
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


STRUCTURED = (ROOT / "tests" / "data" / "structured.jsonl").read_text(encoding="utf-8")
# By hand, from the file: no lead twice, no empty section, no notes; titles on their own lines.
COMMUNE = """commune fictive du Calvados, en France
Valbrune-sur-Orne (/val.bʁyn syʁ ɔʁn/) est une commune imaginaire située dans le département du \
Calvados. Elle compte 1 284 habitants, appelés les Valbrunois.

Géographie
Le bourg s’étend sur la rive gauche de l’Orne, à 14,5 km au sud de Caen.

Communes limitrophes
Saint-Aubin-des-Prés
Trois-Moulins

Histoire

Moyen Âge
Le château, cité dès 1187, fut démantelé en 1432 ; il n’en reste qu’une tour.

La tour
« La Brune » mesure 21 m de haut."""


@pytest.mark.parametrize("generation", ["nested", "sections as a string", "all as strings"])
def test_nested_sections_of_both_generations(generation):
    records = [json.loads(line) for line in STRUCTURED.splitlines()]
    keys = {"nested": [], "sections as a string": ["sections"]}.get(
        generation, ["sections", "in_language", "is_part_of", "infoboxes"]
    )
    for record in records:
        for key in keys:
            if key in record:
                record[key] = json.dumps(record[key], ensure_ascii=False)
    commune, _, bird = map(parse_article, records)
    assert commune.text.replace("\u00a0", " ").replace("\u202f", " ") == COMMUNE
    assert (commune.id, commune.lang) == ("frwiki:900001", "fr")
    assert bird.text == "La Grive des sables est une espèce fictive de passereaux."


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ([{"name": "Abstract", "has_parts": [{"value": "Le long."}]}], "d\nLe long."),
        ([{"name": "Abstract", "has_parts": [{"links": []}]}], "d\nLe court."),
        ([{"name": "A", "has_parts": [{"value": "a"}]}], "d\nLe court.\n\nA\na"),
        ([], "d\nLe court."),
        (None, "d\nLe court."),
        ("", "d\nLe court."),
        ("null", "d\nLe court."),
        ('["a"]', "d\nLe court.\na"),
    ],
)
def test_the_lead_is_written_once(sections, text):
    record = {"name": "A", "description": "d", "abstract": "Le court.", "sections": sections}
    assert parse_article(record).text == text


def test_the_language_decides_which_sections_are_left_out():
    record = {"name": "A", "sections": [{"name": "See also", "value": "B"}], "abstract": "a"}
    assert parse_article(record, "en").text == "a"
    assert parse_article(record, "fr").text == "a\n\nSee also\nB"
    assert parse_article(record | {"in_language": "en"}, "fr").lang == "en"


def test_the_hugging_face_layout():
    record = {"id": "7", "url": "…", "title": "Caen", "text": "Caen est une commune."}
    assert parse_article(record) == Article("frwiki:7", "Caen", "Caen est une commune.", "fr")


@pytest.mark.parametrize("title", [{}, {"title": None}, {"title": " "}, {"name": ""}])
def test_a_plain_text_needs_no_title(title):
    record = title | {"text": "Il pleut.", "origin": "phrases"}
    digest = hashlib.blake2b(b"Il pleut.", digest_size=8).hexdigest()
    assert parse_article(record) == Article(f"frwiki:#{digest}", "", "Il pleut.", "fr")
    assert parse_article(record | {"id": 7}).id == "frwiki:7"
    # pandas makes floats of whole numbers as soon as one is missing.
    assert parse_article(record | {"id": 7.0}).id == "frwiki:7"
    assert parse_article(record | {"id": math.nan}).id == f"frwiki:#{digest}"
    assert parse_article(record | {"text": "Il neige."}).id != f"frwiki:#{digest}"


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
        ({"title": None, "text": " "}, "no title .* and no plain text"),
        ({"title": 3, "text": "texte"}, "title must be text, not int"),
        ({"text": ["texte"]}, "text must be text, not list"),
        ({"text": "\ud83d"}, "lone surrogate"),
        ({"text": "{{Ébauche}}"}, "nothing is left"),
        ({"name": "A"}, "no text"),
        ({"name": "A", "abstract": "  "}, "no text"),
        ({"name": 3, "abstract": "texte"}, "name must be text, not int"),
        ({"name": "A", "abstract": ["texte"]}, "abstract must be text, not list"),
        ({"name": "A", "abstract": "\ud83d"}, "lone surrogate"),
        ({"name": "A", "abstract": "a", "id": "\ud83d"}, "lone surrogate"),
        ({"name": "A", "abstract": "a", "sections": 3}, "sections must be a list, not int"),
        ({"name": "A", "abstract": "a", "sections": "[{"}, "sections: broken JSON"),
        ({"name": "A", "abstract": "a", "sections": "[" * 10_000}, "sections: nested too deeply"),
        ({"name": "A", "abstract": "a", "sections": '"texte"'}, "sections must be a list, not str"),
        (
            {"name": "A", "abstract": "a", "id": ["1"]},
            "a whole number or text, not list",
        ),
        ({"name": "A", "abstract": "a", "id": 1.5}, "a whole number or text, not float"),
        ({"name": "A", "abstract": "a", "id": True}, "a whole number or text, not bool"),
        ({"name": "A", "abstract": "{{Ébauche}}"}, "nothing is left"),
    ],
)
def test_a_bad_record_says_why(record, reason):
    with pytest.raises(BadRecord, match=reason):
        parse_article(record)

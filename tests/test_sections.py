import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from wikigpt.corpus.sections import LEFT_OUT, merge_sections


def section(name, *parts):
    return {"type": "section", "name": name, "has_parts": list(parts)}


def paragraph(text):
    return {"type": "paragraph", "value": text}


def test_titles_stand_alone_and_only_above_text():
    sections = [
        section("Abstract", {"type": "paragraph", "links": []}, paragraph("Le début.")),
        section("Vide"),
        section("A", section("A vide", section("B"), {"type": "list"}), section("A1", "un")),
        section("C", paragraph("deux"), section("C1", paragraph("trois")), paragraph("quatre")),
    ]
    merged = merge_sections(sections, "fr")
    assert merged.lines == [
        "Le début.", "", "A", "", "A1", "un", "", "C", "deux", "", "C1", "trois", "quatre",
    ]  # fmt: skip
    assert merged.has_lead and not merged.left_out


def test_an_empty_section_leaves_no_title_above_what_its_neighbours_say():
    item = {"type": "list_item", "value": "un point"}
    for own, line in ((paragraph("texte de P"), "texte de P"),
                      ({"type": "list", "has_parts": [item]}, "un point"),
                      ({"type": "paragraph", "values": ["texte de P"]}, "texte de P")):  # fmt: skip
        assert merge_sections([section("P", section("Vide"), own)], "fr").lines == ["", "P", line]
        lead = section("Abstract", paragraph("lead"), section("Vide"), own)
        assert merge_sections([lead], "fr").lines == ["lead", line]


def test_a_language_is_known_however_it_is_written():
    notes = section("Notes", paragraph("livre"))
    assert merge_sections([notes], "FR") == merge_sections([notes], "fr") == ([], ["livre"], False)


@pytest.mark.parametrize(
    ("lang", "name"), [(lang, name) for lang in LEFT_OUT for name in LEFT_OUT[lang]]
)
def test_sections_of_links_and_sources_are_left_out_at_every_level(lang, name):
    noise = section(name.upper() + " ", section("Ouvrages", paragraph("Un livre.")))
    merged = merge_sections([section("A", noise, paragraph("gardé")), noise], lang)
    assert merged.lines == ["", "A", "gardé"]
    assert merged.left_out == ["Un livre.", "Un livre."]


def test_each_language_has_its_own_table():
    assert merge_sections([section("Voir aussi", "x")], "en").lines == ["", "Voir aussi", "x"]
    assert merge_sections([section("See also", "x")], "en").lines == []
    assert merge_sections([section("Notes", "x")], "xx").lines == ["", "Notes", "x"]


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (None, []),
        ("texte", ["texte"]),
        (["a", None, ["b", ["c"]], 3, True, float("nan")], ["a", "b", "c"]),
        ({"value": ["a", {"value": "b"}]}, ["a", "b"]),
        ([{"type": "list", "values": ["a", None, 1, "b"]}], ["a", "b"]),
        ([{"name": None, "has_parts": "a"}], ["a"]),
        ([{"name": ["A"], "value": "a", "has_parts": {"value": "b"}}], ["a", "b"]),
        ([{"type": "list_item", "name": "kein Titel", "value": "a"}], ["a"]),
        ([{"name": "Titre", "value": " a\n"}], ["", "Titre", "a"]),
    ],
)
def test_whatever_it_is_its_text_is_found(sections, lines):
    assert merge_sections(sections, "fr").lines == lines


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: section("T", x), lambda x: {"value": x}])
def test_ten_thousand_levels(wrap):
    deep = "fond"
    for _ in range(10_000):
        deep = wrap(deep)
    lines = merge_sections(deep, "fr").lines
    assert lines[-1] == "fond"
    assert lines.count("T") == (10_000 if lines[0] == "" else 0)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["type", "name", "value", "values", "has_parts", "links"]), inner
        )
    ),
)


@given(anything, st.sampled_from(["fr", "en", ""]))
def test_nothing_makes_it_fail(sections, lang):
    merged = merge_sections(sections, lang)
    assert all(isinstance(line, str) for line in merged.lines + merged.left_out)


def recursive_text(part, skip):
    """The same merge as a book would write it, for well-formed parts."""
    if part.get("name") in skip:
        return []
    lines = [part["value"]] if part.get("value") else []
    for inner in part.get("has_parts", []):
        lines += recursive_text(inner, skip)
    if lines and part["type"] == "section" and part["name"] != "Abstract":
        lines = ["", part["name"], *lines]
    return lines


def test_it_agrees_with_a_recursive_function():
    for line in (ROOT / "tests/data/structured.jsonl").read_text(encoding="utf-8").splitlines():
        sections = json.loads(line)["sections"]
        expected = [
            text
            for part in sections
            for text in recursive_text(part, {"Notes et références", "Voir aussi"})
        ]
        assert merge_sections(sections, "fr").lines == expected

import json
import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.corpus.articles import parse_article
from wikigpt.corpus.cleaning import RULES, CleaningReport, clean
from wikigpt.plots import plot_cleaning

CASES = {
    "NFC": [("e\u0301te\u0301", "été")],
    "end-of-text mark": [("a<|endoftext|>b", "ab")],
    "references": [
        ('Ceria<ref name="DHB">Aa,\nhameau.\n</ref>. Le', "Ceria. Le"),
        ('a<ref name="x" /> b<ref>c</ref>', "a b"),
        ("a<ref", "a<ref"),
    ],
    "templates": [
        ("en utilisant { { section à recycler } }.", "en utilisant."),
        ("{{Infobox Ville\n| nom = {{lang|fr|A}}\n| pop = 3\n}}\nLa ville", "La ville"),
        ("un {{formatnum:12}} deux", "un deux"),
        ("{ \\displaystyle { { 2n } \\choose { n } } }", None),
        ("\\left \\{ { \\begin { array } { l } x } }", None),
        ("x^{{n}}", None),
        ("v_{{max}} vaut 3", None),
        ("x^{{ab}}", None),
        ("{{jamais fermé", None),
        ("{% if a %}{ b }", None),
    ],
    "category tail": [
        ("Fin.\n\nCatégorie:Ville\n[[Catégorie:Port|Caen]]\n", "Fin."),
        ("Fin.\nCategory:Towns", "Fin."),
        ("Catégorie:Ville au début\nFin.", None),
        ("Catégorie:Ville", None),
        ("Fin. \n \nCatégorie:Ville\n\n", "Fin."),
        ("Fin.\n Catégorie:Ville\n", None),
        ("Fin.\nCatégorie : femmes", None),
    ],
    "empty parentheses": [
        ("Julie ( ) est", "Julie est"),
        ("L’Ariège ( ; ) est", "L’Ariège est"),
        ("Jan Hus (), dit", "Jan Hus, dit"),
        ("« SA » (), dit", "« SA », dit"),
        ("chén zhōu [] ; litt", "chén zhōu ; litt"),
        ("Alsys\u00a0(\u00a0).", "Alsys."),
        ("main() et int[]", None),
        ("La virgule (,) est", None),
        ("l’année (...). Les [...] et [,]", None),
    ],
    "stray comma": [
        ("Isolde (, 1931), Seul (; IRA)", "Isolde (1931), Seul (IRA)"),
        ("La virgule (,) est", None),
        ("f(, x)", None),
    ],
}


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("cafe<ref>x</ref>\u0301", "café"),
        ("a <|end<ref>x</ref>oftext|> b", "a  b"),
        ("a <|endof<|endoftext|>text|> b", "a  b"),
    ],
)
def test_what_a_rule_has_joined_is_seen_again(raw, cleaned):
    report = CleaningReport()
    assert clean(raw, report) == cleaned
    removed = sum(touched.bytes for touched in report.rules.values())
    assert removed == len(raw.encode()) - len(cleaned.encode())


@pytest.mark.parametrize(
    ("rule", "raw", "cleaned"), [(rule, *case) for rule in CASES for case in CASES[rule]]
)
def test_each_rule_removes_what_it_says_and_no_more(rule, raw, cleaned):
    assert RULES[rule](raw) == (raw if cleaned is None else cleaned)


def test_every_rule_has_its_cases():
    assert list(CASES) == list(RULES)


@given(st.text(st.sampled_from("a é\u0301{}()[],;:<>/ref|\n\\Catégorie\u00a0"), max_size=60))
def test_rules_only_remove(text):
    cleaned = iter(unicodedata.normalize("NFC", text))
    # A subsequence of the text: nothing was added, replaced or moved.
    assert all(any(c == other for other in cleaned) for c in clean(text))


@pytest.mark.parametrize("text", ["{ {" * 50_000, "{{a" * 50_000, "<ref>" * 20_000, "( " * 99_999,
                                  "Catégorie:a\n" * 20_000, "a (,;" * 50_000])  # fmt: skip
def test_no_text_takes_for_ever(text):
    clean(text)  # a quadratic rule would take minutes here


def test_nested_templates_are_removed_to_a_bound():
    """A level is a pass over the text, so a nest without a bound could cost hours."""
    assert clean("a " + "{{aa " * 40 + "}}" * 40).strip() == "a"
    assert clean("a " + "{{aa " * 20_000 + "}}" * 20_000).count("{{") == 20_000 - 50


def test_the_report_adds_up():
    report = CleaningReport()
    record = {
        "name": "Caen", "description": "ville", "abstract": "Caen est.",
        "sections": [
            {"type": "section", "name": "Abstract", "has_parts": [{"value": "Caen () est là."}]},
            {"type": "section", "name": "Voir aussi", "has_parts": [{"value": "Évreux"}]},
        ],
    }  # fmt: skip
    text = parse_article(record, "fr", report).text
    assert text == "ville\nCaen est là."
    report.keep(text)
    report.drop("near duplicate", parse_article({"name": "B", "text": "déjà"}, "fr", report).text)
    by_rule = {name: (touched.documents, touched.bytes) for name, touched in report.rules.items()}
    # By hand: « Caen est. » is 9 bytes, « Évreux » 7, « () » with its space 3, « déjà » 6.
    assert by_rule == {
        "repeated lead": (1, 9), "left-out sections": (1, 7), "empty parentheses": (1, 3),
    }  # fmt: skip
    assert (report.found.documents, report.kept.documents) == (2, 1)
    assert report.found.bytes == report.kept.bytes + 9 + 7 + 3 + 6
    assert report.share_dropped("near duplicate") == 0.5
    assert report.lengths == {5: 1}  # 18 characters: from 16 to 31
    lines = report.table().splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "found", "repeated lead", "left-out sections", "empty parentheses", "near duplicate", "kept"
    ]  # fmt: skip
    assert "50.00%" in lines[-2]


def test_reports_of_parts_merge_into_the_report_of_the_whole():
    whole, halves = CleaningReport(), [CleaningReport(), CleaningReport()]
    texts = ["a {{x}}b", "e\u0301", "aa {{yy}}b", "c" * 100, "d (, e)", "f", "gg"]
    for i, raw in enumerate(texts):
        for report in (whole, halves[i < 3]):
            text = parse_article({"name": "A", "text": raw}, "fr", report).text
            report.drop("too short", text) if len(text) < 2 else report.keep(text)
    assert whole.rules and whole.dropped and len(whole.lengths) > 1
    by_json = [CleaningReport.from_dict(json.loads(json.dumps(asdict(r)))) for r in halves]
    assert by_json == halves
    assert CleaningReport.merged(by_json) == whole
    assert CleaningReport.merged([]) == CleaningReport()


def test_an_empty_report_can_be_shown(tmp_path):
    assert "-" in CleaningReport().table()
    plot_cleaning(CleaningReport(), tmp_path / "empty.png")


def test_the_report_is_drawn(tmp_path):
    report = CleaningReport()
    for n in (3, 4, 100):
        report.found.documents += 1
        report.found.bytes += n + 10
        report.removed("templates", 10)
        report.keep("a" * n)
    figure = plot_cleaning(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    removed, lengths = figure.axes
    assert [bar.get_width() for bar in removed.patches] == [30]
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in lengths.patches]
    assert bars == [(2, 2, 1), (4, 4, 1), (64, 64, 1)]

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_jsonl
from wikigpt.corpus.stream import Rejects, read_articles, split_of
from wikigpt.errors import UserError

GOOD = {"name": "A", "abstract": "texte"}


def test_bad_lines_are_set_aside_and_their_neighbours_kept(tmp_path):
    good = json.dumps(GOOD).encode()
    lines = [
        b"\xef\xbb\xbf" + good,  # a byte-order mark
        good[:10],
        b"",
        good,
        b'{"name": "A", "abstract": "\xff"}',
        b"[" * 100_000,
        b'{"name": "A", "abstract": "\\ud800"}',
        b'{"name": NaN, "abstract": "a"}',
        json.dumps({"name": "A", "abstract": "a\u2028b\u0085c"}, ensure_ascii=False).encode(),
        good,
    ]
    path = tmp_path / "dump.jsonl"
    path.write_bytes(b"\n".join(lines))
    rejects = Rejects(max_share=0.6)
    texts = [article.text for article in read_articles([path], rejects)]
    assert texts == ["texte", "texte", "a\u2028b\u0085c", "texte"]
    assert rejects.records == 9
    assert [(r.file, r.line) for r in rejects.rejected] == [
        ("dump.jsonl", n) for n in (2, 5, 6, 7, 8)
    ]
    reasons = [r.reason for r in rejects.rejected]
    for reason, says in zip(
        reasons, ["broken JSON", "invalid UTF-8", "nested", "surrogate", "not float"], strict=True
    ):
        assert says in reason
    rejects.save(tmp_path / "rejected.jsonl")
    saved = (tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(saved[0])["line"] == 2


def test_a_corpus_that_is_bad_as_a_whole_stops_and_says_where(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [GOOD] * 50 + [{"name": "A"}] * 4)
    with pytest.raises(UserError, match=r"4 of 54 records are bad.* x\.jsonl, line 51: no text"):
        list(read_articles([path]))
    assert len(list(read_articles([path], Rejects(max_share=0.1)))) == 50


def test_a_large_bad_file_stops_early(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"name": "A"}] * 5000)
    rejects = Rejects()
    with pytest.raises(UserError):
        list(read_articles([path], rejects))
    assert rejects.records == 1000


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no corpus file"):
        list(read_articles([tmp_path / "gone.jsonl"]))


@given(st.lists(st.text(), unique=True, min_size=1), st.floats(0.01, 0.49))
def test_the_split_is_a_matter_of_the_id_alone(ids, fraction):
    ids = [i for i in ids if i.isprintable()]
    assert [split_of(i, fraction) for i in ids] == [split_of(i, fraction) for i in ids[::-1]][::-1]


def test_the_split_has_the_stated_size_and_grows_by_adding():
    ids = [f"frwiki:{i}" for i in range(20_000)]
    small = {i for i in ids if split_of(i, 0.05) == "validation"}
    large = {i for i in ids if split_of(i, 0.1) == "validation"}
    assert abs(len(small) / len(ids) - 0.05) < 0.005
    assert small < large


def test_the_whole_leads_corpus_goes_through_unchanged(leads):
    rejects = Rejects()
    articles = list(read_articles([leads], rejects))
    records = [json.loads(line) for line in leads.read_text(encoding="utf-8").split("\n")[:-1]]
    assert not rejects.rejected
    for article, record in zip(articles, records, strict=True):
        parts = (record.get("description", "").strip(), record["abstract"].strip())
        assert article.text == "\n".join(part for part in parts if part)

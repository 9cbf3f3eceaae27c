"""One set of records in every kind of file comes out the same."""

import gzip
import io
import itertools
import json
import zipfile

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from wikigpt.corpus import records
from wikigpt.corpus.articles import parse_article
from wikigpt.corpus.records import (
    COLUMNS,
    RECORD,
    SECTIONS,
    BadRecord,
    count_records,
    decode_json,
    read_records,
)
from wikigpt.corpus.whole import what_is_wrong
from wikigpt.errors import UserError

ROWS = [{"id": str(i), "title": f"Titre {i}", "text": f"Un texte, le {i}e.\u2028Suite\u0085fin"}
        for i in range(150)]  # fmt: skip
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet(rows: list[dict], **columns: list) -> bytes:
    table = pa.Table.from_pylist(rows)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=40)
    return buffer.getvalue()


KINDS = {
    "a.jsonl": JSONL,
    "a.ndjson": JSONL.replace(b"\n", b"\r\n\r\n"),
    "a.JSONL.GZ": gzip.compress(JSONL[:1000]) + gzip.compress(JSONL[1000:]),
    "a.jsonl.zst": zst(JSONL[:1000]) + zst(JSONL[1000:]),
    "a.parquet": parquet(ROWS, url=["…"] * 150),
    "a.parquet.gz": gzip.compress(parquet(ROWS)),
    "a.zip": zipped(
        **{"d/a.jsonl": JSONL[: JSONL.index(b"\n") + 1], "__MACOSX/d/._a.jsonl": b"\0\5\26",
           "d/._b.jsonl": b"\0\5\26", "README.md": b"# a",
           "d/b.jsonl.gz": gzip.compress(JSONL[JSONL.index(b"\n") + 1 :])}
    ),
    "b.zip": zipped(**{"a.parquet": parquet(ROWS)}),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_records(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name])
    found = list(read_records(tmp_path / name))
    assert [record.value for record in found] == ROWS
    assert found[0].file.startswith(name) and found[0].line == 1


def test_of_parquet_only_the_needed_columns_are_read(tmp_path):
    rows = [{"title": "A", "text": "b", "references": "r" * 1000}]
    (tmp_path / "a.parquet").write_bytes(parquet(rows))
    [record] = read_records(tmp_path / "a.parquet")
    assert set(record.value) == {"title", "text"}


def test_a_parquet_row_of_invalid_utf8_costs_one_row(tmp_path):
    texts = pa.array([b"bon", b"\xff", b"bon aussi"]).view(pa.string())
    pq.write_table(pa.table({"title": ["a", "b", "c"], "text": texts}), tmp_path / "a.parquet")
    values = [record.value for record in read_records(tmp_path / "a.parquet")]
    assert [v["text"] for v in values[::2]] == ["bon", "bon aussi"]
    assert isinstance(values[1], BadRecord) and "invalid UTF-8" in str(values[1])


def test_the_kaggle_layout_is_the_same_as_jsonl_and_as_parquet(tmp_path):
    path = ROOT / "tests" / "data" / "structured.jsonl"
    nested = [record.value for record in read_records(path)]
    keys = ("name", "identifier", "description", "abstract", "in_language", "is_part_of")
    flat = [{key: value.get(key) for key in keys} for value in nested]
    sections = [json.dumps(value["sections"], ensure_ascii=False) for value in nested]
    (tmp_path / "a.parquet").write_bytes(parquet(flat, sections=sections))
    rows = [record.value for record in read_records(tmp_path / "a.parquet")]
    assert isinstance(rows[0]["sections"], str)
    assert list(map(parse_article, rows)) == list(map(parse_article, nested))


def test_a_text_file_is_one_document_or_many(tmp_path):
    path = tmp_path / "contes.txt"
    path.write_bytes("\ufeffIl était une fois\r\nun roi.\r\n".encode())
    [article] = [parse_article(record.value) for record in read_records(path)]
    assert article.id.startswith("txt:contes-1-") and article.title == "contes"
    assert article.text == "Il était une fois\nun roi."
    path.write_bytes(b"un\n<|endoftext|>\n\n<|endoftext|>\ndeux\ntrois\n<|endoftext|>\n\xff")
    found = list(read_records(path))
    assert [r.line for r in found] == [1, 3, 4]
    assert [parse_article(r.value).text for r in found[:2]] == ["un", "deux\ntrois"]
    assert "invalid UTF-8" in str(found[2].value)
    path.write_bytes(b"un.<|endoftext|>deux,\net demi <|endoftext|> <|endoftext|>trois\n")
    texts = [parse_article(record.value).text for record in read_records(path)]
    assert texts == ["un.", "deux,\net demi", "trois"]


@pytest.mark.parametrize(
    "name", ["dump\\a.jsonl", "Wikipédia: a.jsonl", "/data/a.jsonl", "a\u00a0b.jsonl", "a.ndjson"]
)
def test_a_member_of_a_zip_is_read_whatever_it_is_called(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(zipped(**{name: b'{"id": 1}\n'}))
    assert [record.value for record in read_records(tmp_path / "a.zip")] == [{"id": 1}]
    assert what_is_wrong(tmp_path / "a.zip", "a.zip") is None


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.zip"])
def test_an_empty_archive_is_damaged(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="is damaged or cut short"):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_bytes_changed_or_lost_is_damaged(tmp_path, packing):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("a.jsonl", JSONL)
    data, path = buffer.getvalue(), tmp_path / "a.zip"
    middle = len(data) // 3
    for damaged in (data[:middle] + b"\xff" * 20 + data[middle + 20 :],
                    data[:middle] + data[middle + 20 :]):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or cut short"):
            list(read_records(path))
        assert what_is_wrong(path, "a.zip") == "the archive is damaged"


@pytest.mark.parametrize(
    "name", ["a.JSONL.GZ", "a.jsonl.zst", "a.parquet", "a.zip", "a.parquet.gz", "b.zip"]
)
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_file_that_is_cut_short_stops_in_one_sentence(tmp_path, name, share):
    data = KINDS[name]
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"is damaged or cut short \(.*\); get it again"):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("name", ["a.JSONL.GZ", "a.jsonl.zst", "a.parquet", "a.zip"])
def test_a_file_that_is_something_else_stops_in_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(UserError, match="damaged or cut short"):
        list(read_records(tmp_path / name))


def test_flipped_bits_stop_in_one_sentence_or_cost_records(tmp_path):
    for name in ("a.JSONL.GZ", "a.jsonl.zst", "a.zip", "a.parquet"):
        for place in range(0, len(KINDS[name]), 41):
            data = bytearray(KINDS[name])
            data[place] ^= 0x55
            (tmp_path / name).write_bytes(data)
            for read in (count_records, lambda path: list(read_records(path))):
                try:
                    read(tmp_path / name)
                except UserError as error:
                    assert "\n" not in str(error)


def test_other_kinds_and_missing_files_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("a,b", encoding="utf-8")
    with pytest.raises(UserError, match="of no kind that can be read"):
        list(read_records(tmp_path / "a.csv"))
    (tmp_path / "a.zip").write_bytes(zipped(**{"__MACOSX/a.jsonl": b"{}"}))
    with pytest.raises(UserError, match="holds no"):
        list(read_records(tmp_path / "a.zip"))
    (tmp_path / "a.parquet").write_bytes(parquet([{"other": 1}]))
    with pytest.raises(UserError, match="none of the columns"):
        list(read_records(tmp_path / "a.parquet"))
    with pytest.raises(UserError, match="There is no corpus file"):
        list(read_records(tmp_path / "gone.jsonl"))


def test_a_line_that_is_too_long_is_read_past_in_pieces(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"id": 1}\n"')
        for _ in range(200):
            file.write(b"a" * 2**20)
        file.write(b'"\n{"id": 2}\n')
    before = psutil.Process().memory_info().rss
    peak = 0
    values = []
    for record in read_records(path):
        values.append(record.value)
        peak = max(peak, psutil.Process().memory_info().rss)
    assert values[::2] == [{"id": 1}, {"id": 2}]
    assert "longer than 32 MiB" in str(values[1])
    assert peak - before < 150 * 2**20  # the line has 200 MiB


def test_a_text_document_that_is_too_long_says_how_to_cut_it(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 2**20)
    path = tmp_path / "a.txt"
    path.write_bytes(b"une ligne\n" * 200_000 + b"<|endoftext|>\nfin")
    long, short = read_records(path)
    assert "put <|endoftext|> between its documents, on lines" in str(long.value)
    assert short.value["text"] == "fin"


def test_what_is_not_in_the_usual_shape_is_decoded_whole():
    skipped = b'{"name": "A", "version": {"x": 1}, "sections": [{"name": "B", "links": [1]}]}'
    assert decode_json(skipped, RECORD) == {"name": "A", "sections": [{"name": "B"}]}
    for value in (
        '"sections": {"links": 1}',
        '"name": 1',
        '"id": 1.5',
        '"id": 1267650600228229401',
    ):
        line = f'{{{value}, "x": NaN}}'
        assert decode_json(line.encode(), RECORD).keys() == {value.split('"')[1], "x"}
    assert decode_json(b'\xef\xbb\xbf{"name": "A", "x": "\\ud800"}', RECORD)["name"] == "A"
    assert decode_json('[{"name": 3, "has_parts": ["a"]}]', SECTIONS)[0]["has_parts"] == ["a"]
    for line, says in (
        (b"{", "broken JSON"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"[" * 99_999, "deep"),
    ):
        with pytest.raises(BadRecord, match=says):
            decode_json(line, RECORD)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(sorted(COLUMNS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(["type", "name", "value", "values", "has_parts"]), inner, max_size=5
            ),
            max_leaves=8,
        ),
    )
)  # fmt: skip
def test_both_decoders_agree_on_what_is_read(record):
    line = json.dumps(record).encode()
    assert decode_json(line, RECORD) == decode_json(line) == record


LINES = st.lists(
    st.sampled_from([b"", b" \t\r", b"\xef\xbb\xbf", b"{", b'{"a": 1}', b'"\xff"', b"<|endoftext|>",
                     "\u2028é".encode(), b"a" * 99]),
    max_size=30,
)  # fmt: skip


def of_kind(kind: str, lines: list[bytes]) -> bytes:
    data = b"\n".join(lines)
    half = b"".join(line + b"\n" for line in lines[: len(lines) // 2])
    match kind:
        case "parquet":
            buffer, rows = io.BytesIO(), [line.decode("latin-1") for line in lines]
            table = pa.table({"title": pa.array(rows, pa.string())})
            pq.write_table(table, buffer, row_group_size=7)
            return buffer.getvalue()
        case "jsonl.gz" | "txt.gz":
            return gzip.compress(data)
        case "jsonl.zst":
            return zst(data)
        case "zip":
            rest = gzip.compress(data[len(half) :])
            return zipped(**{"a.jsonl": half, "b.txt.gz": rest, "c.jsonl": half})
    return data


def comparable(record):
    return record and record._replace(value=str(record.value))


@pytest.mark.parametrize(
    "kind", ["jsonl", "jsonl.gz", "jsonl.zst", "txt", "txt.gz", "parquet", "zip"]
)
@given(data=st.data())
def test_a_record_keeps_its_number_whichever_are_taken(tmp_path_factory, kind, data):
    lines, pattern = data.draw(LINES), data.draw(st.lists(st.booleans(), min_size=1))
    path = tmp_path_factory.getbasetemp() / f"taken.{kind}"
    path.write_bytes(of_kind(kind, lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_RECORD_BYTES", 50)
        every = list(map(comparable, read_records(path)))
        assert count_records(path) == len(every)
        some = list(map(comparable, read_records(path, itertools.cycle(pattern))))
    assert some == [
        record if yes else None
        for record, yes in zip(every, itertools.cycle(pattern), strict=False)
    ]
    if kind.startswith("jsonl"):
        assert len(every) == sum(bool(line.strip()) for line in lines)
    elif kind == "parquet":
        assert len(every) == len(lines)


def test_what_is_not_taken_is_not_parsed(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(JSONL)
    (tmp_path / "a.parquet").write_bytes(parquet(ROWS))
    parsed = []
    monkeypatch.setattr(records, "decode_json", lambda line, usual: parsed.append(line))
    assert count_records(tmp_path / "a.jsonl") == 150 and not parsed
    third = itertools.cycle([False, False, True])
    assert sum(r is not None for r in read_records(tmp_path / "a.jsonl", third)) == 50
    assert parsed == JSONL.splitlines(keepends=True)[2::3]
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    assert count_records(tmp_path / "a.parquet") == 150


def test_text_files_of_one_name_hold_different_articles(tmp_path):
    for folder, text in (("a", "un"), ("b", "deux"), ("c", "deux")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "texte.txt").write_text(text, encoding="utf-8")
    ids = {
        folder: parse_article(next(iter(read_records(tmp_path / folder / "texte.txt"))).value).id
        for folder in "abc"
    }
    assert ids["a"] != ids["b"] == ids["c"], "it depends on the text, not on where it lies"

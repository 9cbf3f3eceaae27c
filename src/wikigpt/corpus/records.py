"""Files of any kind -> raw records, one at a time, bad ones included.

`.jsonl` (a record a line), `.parquet` (a record a row) and `.txt` (a document a file, or several
with `<|endoftext|>` between them), each also as `.gz`, `.zst` or in a `.zip`; nothing is
unpacked to disk but Parquet inside another container, which needs to be read from its end.

A bad record costs only itself: it comes out as a `BadRecord` in place of a value. A damaged file is
another matter: how many records it lost can't be known, so it stops, in one sentence.

Who wants only some of the records says so record by record (`take`); the others are passed over
without being parsed, and counted just as well, so that a record's number never depends on it.

Memory: one record, or one batch of Parquet rows. A line above MAX_RECORD_BYTES is read past in
pieces and is a bad record; the longest article of any Wikipedia is far below that.
"""

import gzip
import hashlib
import io
import itertools
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from wikigpt.corpus.archive import DAMAGE, PACKED, is_damage, members
from wikigpt.errors import UserError

MAX_RECORD_BYTES = 32 * 2**20
PARQUET_ROWS = 64
COLUMNS = {"name", "title", "identifier", "id", "description", "abstract", "text", "sections",
           "in_language", "is_part_of"}  # fmt: skip
END_OF_TEXT = b"<|endoftext|>"
_BUFFER = 2**20


class BadRecord(ValueError):
    """A record that can't become an article; the message says why."""


class Record(NamedTuple):
    """One record as it was found."""

    file: str
    line: int
    """Line, Parquet row or document of the file, from 1."""
    value: Any
    """Decoded JSON, or the BadRecord that says why there is none."""
    start: str
    """The first characters, or a Parquet row's title, to recognise it by."""


def read_records(path: str | Path, take: Iterator[bool] | None = None) -> Iterator[Record | None]:
    """All records of a file in order; blank lines are none.

    Args:
        take: an answer for each record in turn, without end: whether to read it. One that is not
            read comes out as None.

    Raises:
        UserError: the file is missing, damaged, cut short, or of no kind that is known.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no corpus file {path}.")
    if path.suffix.lower() in PACKED and path.stat().st_size == 0:
        raise _damaged(path, EOFError("it is empty"))
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            take = itertools.repeat(True) if take is None else take
            yield from _read(file, path.name, path.name, take, seekable=True)
    except (*DAMAGE, pa.ArrowException) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if not is_damage(error):
            raise
        raise _damaged(path, error) from None


def count_records(path: str | Path) -> int:
    """How many records `read_records` finds, bad ones too: without parsing one; Parquet says it.

    Raises:
        UserError: as `read_records`.
    """
    return sum(1 for _ in read_records(path, itertools.repeat(False)))


def _damaged(path: Path, error: Exception) -> UserError:
    why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return UserError(f"{path} is damaged or cut short ({why}); get it again.")


def _read(
    file: BinaryIO, name: str, shown: str, take: Iterator[bool], seekable: bool
) -> Iterator[Record | None]:
    """Records of an open file; its name, without the compressions taken off, says its kind."""
    stem, _, suffix = name.rpartition(".")
    match suffix.lower():
        case "jsonl" | "ndjson" | "json":
            yield from _json_lines(file, shown, take)
        case "txt":
            yield from _documents(file, Path(stem).name, shown, take)
        case "parquet":
            yield from _rows(file if seekable else _spooled(file), shown, take)
        case "gz":
            yield from _read(gzip.GzipFile(fileobj=file), stem, shown, take, seekable=False)
        case "zst":
            stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
            stream = io.BufferedReader(stream, _BUFFER)
            yield from _read(stream, stem, shown, take, seekable=False)
        case "zip":
            yield from _members(file if seekable else _spooled(file), shown, take)
        case _:
            raise UserError(
                f"{shown} is of no kind that can be read; give .jsonl, .parquet or .txt files, "
                "plain or as .gz, .zst or .zip."
            )


def _members(file: BinaryIO, shown: str, take: Iterator[bool]) -> Iterator[Record | None]:
    with zipfile.ZipFile(file) as archive:
        names = members(archive)
        if not names:
            raise UserError(f"{shown} holds no .jsonl, .parquet or .txt file.")
        for name in names:
            with archive.open(name) as member:
                stream = io.BufferedReader(member, _BUFFER)
                yield from _read(stream, name, f"{shown}/{name}", take, seekable=False)


def _spooled(file: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (gone with its last reference)
    shutil.copyfileobj(file, copy, _BUFFER)
    return copy


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """(line number, line, whether it is whole); of a line that is too long only its start."""
    number = 0
    # Bytes, so that one line of invalid UTF-8 costs one record, and lines end at \n only.
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        whole = len(line) <= MAX_RECORD_BYTES
        rest = line
        while not whole and not rest.endswith(b"\n"):
            rest = file.readline(_BUFFER)
            if not rest:
                break
        yield number, line, whole


def _json_lines(file: BinaryIO, shown: str, take: Iterator[bool]) -> Iterator[Record | None]:
    for number, line, whole in _lines(file):
        if whole and line.isspace():
            continue
        if not next(take):
            yield None
            continue
        try:
            value = decode_json(line, RECORD) if whole else _too_long()
        except BadRecord as error:
            value = error
        yield Record(shown, number, value, line[:200].decode("utf-8", errors="replace"))


def _too_long() -> BadRecord:
    return BadRecord(f"longer than {MAX_RECORD_BYTES // 2**20} MiB")


class _Part(TypedDict, total=False):
    type: Any
    name: Any
    value: Any
    values: Any
    has_parts: "list[_Part] | None"


class _Usual(TypedDict, total=False):
    """The fields of COLUMNS in their usual shape; what else a record holds is skipped."""

    name: str | None
    title: str | None
    identifier: int | str | None
    id: int | str | None
    description: str | None
    abstract: str | None
    text: str | None
    sections: list[_Part] | str | None
    in_language: Any
    is_part_of: Any


RECORD = msgspec.json.Decoder(_Usual)
SECTIONS = msgspec.json.Decoder(list[_Part])


def decode_json(text: bytes | str, usual: msgspec.json.Decoder | None = None) -> Any:
    """JSON -> Python.

    Half of a record of the dumps is links, revisions and scores; skipping what RECORD does not name
    is a third faster than any parser that builds it all. What is not in the usual shape goes to the
    standard library, the most lenient parser there is, and is judged later: NaN, a lone surrogate
    or a byte-order mark may sit in a field that nobody reads.

    Args:
        usual: the shape to try first, RECORD or SECTIONS; without it everything is decoded.

    Raises:
        BadRecord: broken JSON, invalid UTF-8, or nested too deeply to be read.
    """
    if usual is not None:
        try:
            return usual.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise BadRecord(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)


def _documents(
    file: BinaryIO, stem: str, shown: str, take: Iterator[bool]
) -> Iterator[Record | None]:
    """A text file, whole or cut wherever it says `<|endoftext|>`."""
    lines: list[bytes] = []
    size, number = 0, 1
    for _, line, whole in _lines(file):
        *ended, line = line.split(END_OF_TEXT) if whole else [line]
        for last in ended:
            # What is blank beside a mark belongs to its line, and to no document.
            lines += [last] if last.strip() else []
            yield from _document(lines, size + len(last), number, stem, shown, take)
            lines, size, number = [], 0, number + 1
        if ended and not line.strip():
            continue
        size += len(line)
        if whole and size <= MAX_RECORD_BYTES:
            lines.append(line)
    yield from _document(lines, size, number, stem, shown, take)


def _document(
    lines: list[bytes], size: int, number: int, stem: str, shown: str, take: Iterator[bool]
) -> Iterator[Record | None]:
    data = b"".join(lines)
    start = data[:200].decode("utf-8", errors="replace")
    too_long = size > MAX_RECORD_BYTES
    if not too_long and not data.strip():
        return
    if not next(take):
        yield None
    elif too_long:
        advice = "put <|endoftext|> between its documents, on lines of their own"
        yield Record(shown, number, BadRecord(f"{_too_long()}; {advice}"), start)
    else:
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            yield Record(shown, number, BadRecord(_reason(error)), start)
            return
        # Files of one name in two folders hold different articles.
        which = hashlib.sha256(data).hexdigest()[:10]
        about = {"title": stem, "identifier": f"{stem}-{number}-{which}"}
        yield Record(shown, number, about | {"is_part_of": "txt", "text": text}, start)


def _rows(file: BinaryIO, shown: str, take: Iterator[bool]) -> Iterator[Record | None]:
    """The rows of a Parquet file, of which only the columns that are needed are read."""
    table = pq.ParquetFile(file, pre_buffer=False)
    columns = [name for name in table.schema_arrow.names if name in COLUMNS]
    if not columns:
        raise UserError(f"{shown} has none of the columns name, title, abstract, text, sections.")
    groups = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
    if sum(groups) != table.metadata.num_rows:  # nothing else in a footer is checked
        raise pa.ArrowInvalid("its numbers of rows disagree")
    number = 0
    for group, n_rows in enumerate(groups):
        taken = bytes(itertools.islice(take, n_rows))
        if not any(taken):
            number += n_rows
            yield from itertools.repeat(None, n_rows)
            continue
        for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group], columns=columns):
            here, taken = taken[: batch.num_rows], taken[batch.num_rows :]
            chosen = pa.array([i for i, yes in enumerate(here) if yes], pa.int32())
            values = iter(_values(batch if all(here) else batch.take(chosen)))
            for yes in here:
                number += 1
                yield _parquet_record(shown, number, next(values)) if yes else None


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | BadRecord]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [BadRecord(_reason(error))]
        return [value for i in range(batch.num_rows) for value in _values(batch.slice(i, 1))]


def _parquet_record(shown: str, number: int, value: dict[str, Any] | BadRecord) -> Record:
    title = "" if isinstance(value, BadRecord) else value.get("name") or value.get("title")
    return Record(shown, number, value, str(title)[:200])

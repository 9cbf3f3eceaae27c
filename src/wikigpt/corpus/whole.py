"""Is this file whole? Size alone does not tell: a corrupted body has the right size.

With the digest that the server announced, any change is seen. Without one, what the format itself
can prove is checked: a gzip or zip file by its own checksums, a Parquet file by the mark at its two
ends, JSONL by parsing its first and its last record. A flipped byte in the middle of an unpacked
JSONL file is then not seen here; the stream sets the record aside when it can't be parsed.
"""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

from wikigpt.corpus.archive import DAMAGE, is_damage, members

_BLOCK = 1 << 20


def what_is_wrong(path: Path, name: str, digest: tuple[str, str] | None = None) -> str | None:
    """Why the file can't be whole, or None.

    Args:
        name: the name it is to have; its ending tells the format.
        digest: the one the server announced, if it did, such as ("md5", "d41d8cd9…").
    """
    if path.stat().st_size == 0:
        return "it is empty"
    if digest and _digest(path, digest[0]) != digest[1]:
        return f"its {digest[0].upper()} is not the one announced"
    try:
        if name.endswith(".zip"):
            return _wrong_zip(path, deep=digest is None)
        if name.endswith(".gz"):
            return None if digest else _wrong_gzip(path)
        if name.endswith(".parquet"):
            return _wrong_parquet(path)
        if name.endswith(".jsonl"):
            return None if digest else _wrong_jsonl(path)
    except DAMAGE:
        return "the archive is damaged"
    except OSError as error:
        if not is_damage(error):
            raise
        return "the archive is damaged"
    return None


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        # Not for security; some systems refuse MD5 otherwise.
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def _wrong_zip(path: Path, deep: bool) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = members(archive)
        if not names:
            return "the archive holds no JSONL, Parquet or text file"
        for name in names if deep else []:
            with archive.open(name) as member:
                while member.read(_BLOCK):  # reading to the end compares the checksum
                    pass
    return None


def _wrong_gzip(path: Path) -> str | None:
    with gzip.open(path) as file:
        while file.read(_BLOCK):
            pass
    return None


def _wrong_parquet(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        return None if start == file.read() == b"PAR1" else "it is not a whole Parquet file"


def _wrong_jsonl(path: Path) -> str | None:
    with path.open("rb") as file:
        first = file.readline()
    for which, line in (("first", first), ("last", _last_line(path))):
        try:
            is_record = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            is_record = False
        if not is_record:
            return f"its {which} line is not a JSON record"
    return None


def _last_line(path: Path) -> bytes:
    """The last line that is not blank, read from the end, however long the file is."""
    tail = b""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end and b"\n" not in tail.rstrip():
            start = max(0, end - _BLOCK)
            file.seek(start)
            tail = file.read(end - start) + tail
            end = start
    return tail.rstrip().rpartition(b"\n")[2]

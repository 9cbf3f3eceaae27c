"""Names that come from elsewhere: of files in a listing, of members in a zip archive.

Archives are read in place and never unpacked, so nothing can land outside its folder, whatever a
member is called; only the junk that macOS adds is passed over.
"""

import errno
import lzma
import zipfile
import zlib
from pathlib import PurePosixPath

KINDS = (".jsonl", ".ndjson", ".parquet", ".txt")
PACKED = (".gz", ".zst", ".zip")
# What reading a damaged archive may raise; RuntimeError: it is encrypted.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def is_corpus_name(name: str) -> bool:
    """Whether a name is that of a file we can read: one of KINDS, packed or not."""
    return any(name.lower().endswith(kind + packed) for kind in KINDS for packed in ("", *PACKED))


def is_safe(name: str) -> bool:
    """Whether a name stays below the folder it is joined to, on every system, and is no junk."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    return bool(path.name) and not leaves and not _is_junk(path) and name.isprintable()


def _is_junk(path: PurePosixPath) -> bool:
    return "__MACOSX" in path.parts or path.name.startswith("._")


def members(archive: zipfile.ZipFile) -> list[str]:
    """The names in a zip archive that hold text for us, in its order."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return [n for n in names if is_corpus_name(n) and not _is_junk(PurePosixPath(n))]


def is_damage(error: OSError) -> bool:
    """Whether it comes from a decompressor, without a number, or from a zip directory that points
    before the file's start; else it comes from the disk."""
    return error.errno in (None, errno.EINVAL)

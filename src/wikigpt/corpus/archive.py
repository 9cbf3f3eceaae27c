"""Names that come from elsewhere: of files in a listing, of members in a zip archive.

Archives are read in place and never unpacked, so nothing can land outside its folder; a name that
tries to is passed over like the junk that macOS adds.
"""

import zipfile
from pathlib import PurePosixPath

KINDS = (".jsonl", ".parquet", ".txt")
PACKED = ("", ".gz", ".zst", ".zip")


def is_corpus_name(name: str) -> bool:
    """Whether a name is that of a file we can read: one of KINDS, packed or not."""
    return any(name.lower().endswith(kind + packed) for kind in KINDS for packed in PACKED)


def is_safe(name: str) -> bool:
    """Whether a name stays below the folder it is joined to, on every system, and is no junk."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    junk = "__MACOSX" in path.parts or path.name.startswith("._")
    return bool(path.name) and not leaves and not junk and name.isprintable()


def members(archive: zipfile.ZipFile) -> list[str]:
    """The names in a zip archive that hold text for us, in its order."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return [name for name in names if is_safe(name) and is_corpus_name(name)]

"""Small things every room does with files: hash them, never leave one half-written, take turns."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from wikigpt.errors import UserError

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def one_at_a_time(folder: Path) -> FileLock:
    """Of several processes that make `folder`: who comes second waits, and finds it made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


class DamagedFile(UserError, ValueError):
    """A file that we wrote ourselves, as a whole, and that is no JSON any more."""


def read_json(path: Path) -> Any:
    """
    Raises:
        DamagedFile: what stands there is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        raise DamagedFile(
            f"{shown.as_posix()} is damaged ({error}); restore it, or delete the folder "
            f"{shown.parent.as_posix()} and run the same command again."
        ) from None

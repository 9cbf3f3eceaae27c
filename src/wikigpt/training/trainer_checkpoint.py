"""Which of Trainer's checkpoints are whole.

Trainer writes a checkpoint file by file under its final name, resumes from the highest number, and
says nothing when the optimizer's or the random generators' file is not there (transformers 5.23).
So a mark, written last and in one step, lists the files of a finished checkpoint with a checksum of
each; only what is as its mark says, to the bit, is gone on from. The mark also holds what Trainer
does not save: how far the run is, and the place in a stream of blocks; and a checksum of all this,
its own. Rejected: patching Trainer to write elsewhere and rename; it has no public place for that.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wikigpt.config import relative
from wikigpt.errors import UserError
from wikigpt.files import read_json, sha256, write_json

MARK = "whole.json"


def mark_whole(folder: Path, state: dict[str, Any]) -> None:
    """Say that everything of the checkpoint `folder` is on the disk."""
    files = {}
    for path in sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MARK):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = sha256(path)
    mark = {"files": files, "state": state}
    write_json(folder / MARK, mark | {"own": _checksum(mark)})


def newest_whole(folder: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint in `folder` and its state; None where there is none.

    Newer ones that are not whole are set aside as `incomplete-<step>`, and `say` is told.

    Raises:
        UserError: there were whole ones, and all of them have lost something since.
    """
    found = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    reasons = {}
    for step in sorted(found, reverse=True):
        flaw = _flaw(found[step])
        if flaw is None:
            for newer, reason in reasons.items():
                say(_set_aside(found[newer], reason) + f" Going on from {found[step].name}.")
            return found[step], read_json(found[step] / MARK)["state"]
        reasons[step] = flaw
    # Without a mark, the very first save was cut short: nothing is lost that had been kept.
    if damaged := [step for step in reasons if (found[step] / MARK).exists()]:
        step = max(damaged)
        raise UserError(
            f"No checkpoint in {relative(folder)} is whole: {found[step].name} {reasons[step]}. "
            "Bring the file back, or start afresh (--fresh; in a notebook fresh=True)."
        )
    for step, reason in reasons.items():
        say(_set_aside(found[step], reason) + " There is none before it, so the run begins again.")
    return None


def _flaw(folder: Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence."""
    try:
        mark = read_json(folder / MARK)
        intact = mark.pop("own") == _checksum(mark)
    except FileNotFoundError:
        return "was never finished"
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        return f"has a damaged {MARK}"
    for name, expected in mark["files"].items():
        path = folder / name
        if not path.is_file():
            return f"has lost its {name}"
        if sha256(path) != expected:
            return f"has a damaged {name}"
    return None


def _checksum(mark: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(mark).encode()).hexdigest()


def _set_aside(folder: Path, reason: str) -> str:
    aside = folder.with_name(folder.name.replace("checkpoint", "incomplete"))
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return f"{relative(folder)} {reason}; it is set aside as {aside.name}."

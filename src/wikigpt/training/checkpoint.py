"""Checkpoints that are whole or not there, and from which a run goes on bit for bit.

A checkpoint is a folder:

    model.safetensors   the weights, float32, readable by anything
    model.json          the shape of the model
    state.pt            optimizer, random generators, progress; loaded with weights_only=True
    sha256.json         a checksum of each of these: safetensors has none, and torch does not look
                        at those in its files, so a flipped bit would be trained on

It is written under another name and renamed when complete. A folder can't be renamed over another,
so the old one steps aside first; a kill between the two renames leaves `last.old`, which `load`
knows to look for. At every moment one complete checkpoint has a name that is found.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from wikigpt.config import GPTConfig, relative
from wikigpt.errors import UserError
from wikigpt.files import OUT_OF_SPACE, read_json, sha256
from wikigpt.model.gpt import GPT

CHECKSUMS = "sha256.json"
_DAMAGE = (
    OSError, ValueError, RuntimeError, EOFError, KeyError, TypeError, AttributeError,
    UnpicklingError, SafetensorError,
)  # fmt: skip


def save(folder: Path, model: GPT, state: dict[str, Any]) -> None:
    """Write a checkpoint that replaces `folder` in one step.

    Raises:
        UserError: the disk is full; what was at `folder` before is still there.
    """
    partial, old = _beside(folder, "partial"), _beside(folder, "old")
    shutil.rmtree(partial, ignore_errors=True)
    weights = {name: p.detach().cpu().contiguous() for name, p in model.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    contents = {
        "model.safetensors": safetensors.torch.save(weights),
        "model.json": json.dumps(asdict(model.config), indent=2).encode(),
        "state.pt": buffer.getbuffer(),
    }
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[CHECKSUMS] = json.dumps(checksums, indent=2).encode()
    try:
        partial.mkdir(parents=True)
        for name, content in contents.items():
            _write(partial / name, content)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno not in OUT_OF_SPACE:
            raise
        raise disk_full(folder, find(folder)) from None
    # If a kill left only `old`, it is the good one until `partial` has its name.
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def disk_full(folder: Path, before: Path | None) -> UserError:
    """`before`: the checkpoint that is still there, if there is one."""
    kept = "; the checkpoint before it is whole" if before else ""
    return UserError(
        f"The disk is full: {relative(folder)} could not be saved{kept}. Free some space, then "
        "run the same command to go on."
    )


def find(folder: Path) -> Path | None:
    """Where the newest complete checkpoint called `folder` is, if there is one."""
    return next((f for f in (folder, _beside(folder, "old")) if f.is_dir()), None)


def load_model(folder: Path) -> GPT:
    """The model of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    found = _require(folder)
    return _guarded(found, lambda: _read_model(found))


def load_state(folder: Path) -> dict[str, Any]:
    """The state that was saved beside the model."""
    found = _require(folder)
    return _guarded(found, lambda: _read_state(found))


def random_state() -> dict[str, torch.Tensor]:
    """Where torch's random generators stand; dropout depends on it."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _read_state(folder: Path) -> dict[str, Any]:
    _check(folder, "state.pt")
    # On whatever device it was trained; what takes it moves it to where it belongs.
    return torch.load(folder / "state.pt", weights_only=True, map_location="cpu")


def _read_model(folder: Path) -> GPT:
    _check(folder, "model.json", "model.safetensors")
    model = GPT(GPTConfig(**json.loads((folder / "model.json").read_text(encoding="utf-8"))))
    model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    return model.eval()


def _check(folder: Path, *names: str) -> None:
    """Raise a ValueError if one of the files is not as it was written."""
    if not (folder / CHECKSUMS).exists():
        return  # from before there were any
    checksums = read_json(folder / CHECKSUMS)
    for name in names:
        if sha256(folder / name) != checksums.get(name):
            raise ValueError(f"{name} is not as it was written")


def _require(folder: Path) -> Path:
    found = find(folder)
    if found is None:
        raise UserError(f"There is no checkpoint {relative(folder)}; train first.")
    return found


def _guarded(folder: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The checkpoint {relative(folder)} is damaged ({reason}); delete it and resume from "
            "another, or start afresh."
        ) from None


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f"{folder.name}.{word}")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

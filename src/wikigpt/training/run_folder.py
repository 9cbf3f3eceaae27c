"""A run's folder: `runs/<name>/` with config.yaml, tokenizer/, checkpoints/, metrics and events.

One folder is one experiment. To go on with it, everything that decides its numbers must be as it
was; anything else is a new experiment and gets a new name.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from wikigpt.blocks.prepare import Prepared
from wikigpt.config import Config, differences, load_config, relative, save_config
from wikigpt.errors import UserError
from wikigpt.evaluation.reference import Curve, curve_of
from wikigpt.files import read_json, write_json
from wikigpt.model.gpt import GPT
from wikigpt.tokenizers import load_tokenizer
from wikigpt.training import checkpoint
from wikigpt.training.logging import read_metrics

BEGUN = ("tokenizer", "corpus.json")
"""What a run's folder may hold before config.yaml says that it is one."""
Fresh = bool | Literal["changed"]
"""Is an earlier run of the same name thrown away? "changed": if it is another experiment."""


@contextmanager
def run_lock(config: Config) -> Iterator[None]:
    """Two processes, or two cells, must not write into one run; the lock ends with its process.

    Raises:
        UserError: somebody else holds it.
    """
    path = config.run_path.with_name(f".{config.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"{relative(config.run_path)} is being trained by another process or notebook cell; "
            "wait for it, stop it, or choose another name=."
        ) from None
    try:
        yield
    finally:
        lock.release()


def open_run(config: Config, data: Prepared, fresh: Fresh) -> Path:
    """Create the run's folder, or check that it is the same experiment.

    Raises:
        UserError: the folder belongs to a run with other settings, another tokenizer or other text.
    """
    folder = config.run_path
    if (folder / "config.yaml").is_file():
        # Without a checkpoint there is nothing to go on with, such as after a first step that was
        # too large for the memory.
        empty = not any(folder.glob("checkpoints/*"))
        other = None if empty or fresh is True else _is_another(folder, config, data)
        if other and not fresh:
            raise UserError(
                f"{other}: give this one another name (name=…), or throw the old run away "
                "(--fresh; in a notebook fresh=True)."
            )
        if not (empty or other or fresh is True):
            return folder
        # Aside in one step, so that an interrupted deletion leaves no half of a run behind.
        doomed = folder.with_name(f".{folder.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    elif (folder / "checkpoints").exists():
        raise UserError(
            f"{relative(folder)} holds checkpoints but no config.yaml that says what they are "
            "of; choose another name=, or delete the folder."
        )
    elif folder.exists() and any(path.name not in BEGUN for path in folder.glob("[!.]*")):
        # Only what is recognisably a run is ever gone on with, or deleted.
        raise UserError(f"{relative(folder)} is not a run folder; choose another name=.")
    folder.mkdir(parents=True, exist_ok=True)
    data.tokenizer.save(folder / "tokenizer")
    write_json(folder / "corpus.json", data.manifest)
    save_config(config, folder / "config.yaml")  # last: it is what makes the folder a run
    return folder


def _is_another(folder: Path, config: Config, data: Prepared) -> str | None:
    """Why the run in `folder` can't be gone on with, if so: the beginning of a sentence."""
    if changed := differences(load_config(folder / "config.yaml"), config):
        return f"{relative(folder)} was trained with other settings ({'; '.join(changed)})"
    if load_tokenizer(folder / "tokenizer").fingerprint != data.tokenizer.fingerprint:
        return f"{relative(folder)} was trained with another tokenizer, so its ids mean other text"
    if read_json(folder / "corpus.json") != data.manifest:
        return f"The text that {relative(folder)} was trained on has changed since"
    return None


def load_run(
    folder: str | Path, which: Literal["best", "last"] = "best"
) -> tuple[GPT, Any, Config]:
    """A trained run, ready to use: the model, its tokenizer and its config.

    Raises:
        UserError: no run there, no checkpoint yet, or a damaged one.
    """
    if which not in ("best", "last"):
        raise UserError(f"A run keeps its best and its last checkpoint, not {which!r}.")
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml).")
    config = load_config(folder / "config.yaml")
    if config.training.objective == "mlm":
        raise UserError(
            f"{relative(folder)} holds an encoder, which fills in masks and writes no text; load "
            f'it with transformers: pipeline("fill-mask", "{relative(folder)}").'
        )
    tokenizer = load_tokenizer(folder / "tokenizer")
    checkpoints = folder / "checkpoints"
    found = which if checkpoint.find(checkpoints / which) else "last"
    model = checkpoint.load_model(checkpoints / found)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"The model in {folder} has {model.config.vocab_size} tokens, the tokenizer beside it "
            f"{tokenizer.vocab_size}; they are not from the same run."
        )
    return model, tokenizer, config


def read_curve(folder: str | Path) -> Curve:
    """How far a run has come, finished or not, for evaluation/reference.py.

    Raises:
        UserError: no run there, no evaluation yet, or one of masked tokens.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder (it has no config.yaml).")
    return curve_of(
        load_config(folder / "config.yaml"),
        read_json(folder / "corpus.json"),
        read_metrics(folder),
        precision_of(folder),
    )


def precision_of(folder: str | Path) -> str | None:
    """What a run was trained in, `fp32` or `bf16`, as its checkpoints say; None if none does."""
    checkpoints = Path(folder) / "checkpoints"
    if last := checkpoint.find(checkpoints / "last"):
        return checkpoint.load_state(last).get("precision")
    # Trainer's: their marks, without a judgement whether they are whole.
    for path in sorted(checkpoints.glob("checkpoint-*/whole.json")):
        try:
            return read_json(path)["state"]["precision"]
        except (ValueError, KeyError, TypeError):
            continue  # a damaged mark is for the next `pretrain` to judge
    return None

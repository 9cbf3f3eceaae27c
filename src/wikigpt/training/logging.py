"""What a run leaves to look at: metrics.jsonl, event files for TensorBoard, samples.txt.

metrics.jsonl is the record; after a resume samples.txt is written anew from it.

TensorBoard sorts its groups by name, so the groups are named such that a newcomer meets
bits_per_byte first, then loss, then the optimizer's and the machine's figures.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from wikigpt.errors import UserError
from wikigpt.files import atomic_write
from wikigpt.training.events import Evaluation, MaskedEvaluation, MaskedStep, Sample, Step

TAGS: dict[type, dict[str, str]] = {
    Step: {
        "bits_per_byte": "bits_per_byte/train",
        "loss": "loss/train_nats_per_token",
        "learning_rate": "optimizer/learning_rate",
        "grad_norm": "optimizer/grad_norm",
        "tokens_per_second": "speed/tokens_per_second",
        "mfu": "speed/mfu",
    },
    Evaluation: {
        "bits_per_byte": "bits_per_byte/validation",
        "nats_per_token": "loss/validation_nats_per_token",
        "nats_per_char": "loss/validation_nats_per_char",
    },
    MaskedStep: {
        "loss": "masked/train_nats_per_masked_token",
        "learning_rate": "optimizer/learning_rate",
        "grad_norm": "optimizer/grad_norm",
    },
    MaskedEvaluation: {
        "nats_per_masked_token": "masked/validation_nats_per_masked_token",
        "accuracy": "masked/validation_accuracy",
    },
}


class RunLogger:
    """Writes events into a run folder; after a resume the curves go on without a seam."""

    def __init__(self, folder: Path, resume_step: int, hyperparameters: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # What was logged after the checkpoint will be done, and logged, again.
        kept = [r for r in read_metrics(folder) if r["step"] <= resume_step]
        for name, lines in {
            "metrics.jsonl": [json.dumps(r, ensure_ascii=False) for r in kept],
            "samples.txt": [_readable(r) for r in kept if r["kind"] == "sample"],
        }.items():
            with atomic_write(folder / name) as file:
                file.write("".join(line + "\n" for line in lines).encode())
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._samples = (folder / "samples.txt").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=resume_step + 1)
        if not resume_step:
            known = {k: v for k, v in hyperparameters.items() if isinstance(v, str | int | float)}
            for summary in hparams(known, {"bits_per_byte/validation": None}):
                self._board.file_writer.add_summary(summary)

    def log(self, event: Step | Evaluation | Sample) -> None:
        record = {"kind": type(event).__name__.lower()} | asdict(event)
        self._metrics.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._metrics.flush()
        if isinstance(event, Sample):
            self._samples.write(_readable(record) + "\n")
            self._samples.flush()
            self._board.add_text("samples", _markdown(event), event.step)
        for name, tag in TAGS.get(type(event), {}).items():
            self._board.add_scalar(tag, record[name], event.step)

    def close(self) -> None:
        self._metrics.close()
        self._samples.close()
        self._board.close()


class NoLogger:
    """In the place of a RunLogger where another process writes."""

    def log(self, event: Step | Evaluation | Sample) -> None:
        pass

    def close(self) -> None:
        pass


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl; a last line that a kill cut short is left out."""
    path = folder / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise UserError(
            f"{path} holds a line that is no JSON ({error}); delete the line."
        ) from None


def _readable(sample: dict[str, Any]) -> str:
    return f"--- step {sample['step']}\n{sample['prompt']}|{sample['text']}\n"


def _markdown(sample: Sample) -> str:
    """The prompt in bold, then the completion."""
    return f"**{sample.prompt.strip()}** {plain_markdown(sample.text).strip()}"


def plain_markdown(text: str) -> str:
    """What a model writes must not become mark-up."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text).replace("\n", "  \n")

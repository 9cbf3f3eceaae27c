"""How far a run is, how good, and what is said when it goes wrong: the same for both engines."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wikigpt.blocks.prepare import Prepared
from wikigpt.config import Config, relative
from wikigpt.errors import UserError
from wikigpt.evaluation.bits_per_byte import evaluate
from wikigpt.model.generate import complete
from wikigpt.model.gpt import GPT
from wikigpt.training import checkpoint, events
from wikigpt.training.hardware import Hardware


@dataclass
class Progress:
    """How far a run is; saved in every checkpoint."""

    step: int = 0
    evaluated_at: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: events.Evaluation | None = None


def evaluate_run(
    config: Config, data: Prepared, hardware: Hardware, model: GPT, progress: Progress,
    kept: Path | None = None,
) -> events.Evaluation:  # fmt: skip
    """Evaluate on the whole validation split, and note in `progress` if it is the best so far.

    Args:
        kept: where the last good state is, should the loss not be a number any more.
    """
    start = time.perf_counter()
    batch_size = config.training.micro_batch_size
    loss = evaluate(model, data.validation, batch_size, hardware.autocast)
    if not math.isfinite(loss.nats):
        # Before it is saved, or called the best.
        what = f"The validation loss became {loss.nats} at step {progress.step}"
        raise diverged(config, what, kept)
    evaluation = events.Evaluation(
        step=progress.step,
        bits_per_byte=loss.bits_per_byte,
        nats_per_token=loss.nats_per_token,
        nats_per_char=loss.nats_per_char,
        is_best=progress.best is None or loss.bits_per_byte < progress.best.bits_per_byte,
        seconds=time.perf_counter() - start,
    )
    progress.evaluated_at = progress.step
    if evaluation.is_best:
        progress.best = evaluation
    return evaluation


def write_sample(config: Config, data: Prepared, model: GPT, step: int) -> events.Sample:
    """Complete the first prompt."""
    settings = config.sampling
    prompt = settings.prompts[0]
    pieces = complete(
        model, data.tokenizer, prompt, settings.max_new_tokens, seed=config.seed,
        **settings.decoding,
    )  # fmt: skip
    return events.Sample(step, prompt, "".join(pieces))


def hyperparameters(config: Config) -> dict[str, Any]:
    return {"seed": config.seed} | asdict(config.model) | asdict(config.training)


def diverged(config: Config, what: str, kept: Path | None = None) -> UserError:
    """`kept`: where the last good state is; by default where the own loop keeps it."""
    kept = kept or checkpoint.find(config.run_path / "checkpoints" / "last")
    saved = f"; {relative(kept)} holds the last good state" if kept else ""
    return UserError(
        f"{what}, so training stopped{saved}. Try a learning_rate below "
        f"{config.training.learning_rate:g}, under another name."
    )


def out_of_memory() -> UserError:
    return UserError(
        "The accelerator's memory is full; lower micro_batch_size and raise "
        "grad_accumulation_steps by the same factor, which changes nothing else."
    )

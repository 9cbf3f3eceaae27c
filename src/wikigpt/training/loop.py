"""The training loop, as a generator: `for event in train(config): ...`

The caller decides what to do with an event (draw a bar, plot, test, stop); the loop decides only
how to train. Each optimizer step is a pure function of the saved state and the step's number, so a
run that was killed and resumed ends with the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from wikigpt.blocks.prepare import Prepared, prepare
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import IGNORE, TokenBlocks
from wikigpt.config import Config, GPTConfig, relative, with_vocabulary
from wikigpt.errors import UserError
from wikigpt.evaluation.bits_per_byte import bits_per_byte
from wikigpt.model.gpt import GPT
from wikigpt.training import checkpoint, events, ranks
from wikigpt.training.hardware import (
    Hardware,
    detect,
    keep_freed_memory,
    pick_device,
    synchronize,
)
from wikigpt.training.logging import NoLogger, RunLogger
from wikigpt.training.optim import Optimizers, learning_rate_at, make_optimizer
from wikigpt.training.preflight import preflight
from wikigpt.training.progress import (
    Progress,
    diverged,
    evaluate_run,
    hyperparameters,
    out_of_memory,
    write_sample,
)
from wikigpt.training.run_folder import Fresh, open_run, run_lock
from wikigpt.training.signals import StopRequest


def train(
    config: Config,
    *,
    fresh: Fresh = False,
    say: Callable[[str], None] = print,
) -> Iterator[events.Event]:
    """Train a GPT, or go on with the run of that name, and yield events.

    Leaving the for loop early (`break`, an exception) closes the generator, which saves first, as
    Ctrl-C and SIGTERM do; who keeps the generator in a variable calls its `close()`.

    Args:
        fresh: throw away an earlier run of the same name; "changed": only if its settings, its
            tokenizer or its text are others, as for a notebook's cell that is run again.
        say: is told what is being prepared.

    Raises:
        UserError: anything a user can put right; what was saved before stays.
    """
    settings = config.training
    if fresh not in (True, False, "changed"):
        raise UserError(f'fresh is {fresh!r}; it can be True, False or "changed".')
    data = prepare(config, say)
    # Whatever can be wrong is found out before an old run is touched or a new one begun.
    model_config = with_vocabulary(config.model, data.tokenizer.vocab_size)
    device = pick_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()
    ranks.check(config)
    for prompt in config.sampling.prompts:
        data.tokenizer.encode(prompt)
    if settings.warmup_steps >= settings.max_steps > 1:
        say(
            f"With warmup_steps={settings.warmup_steps} in a run of {settings.max_steps} steps the "
            "learning rate only rises; lower warmup_steps."
        )
    lock = run_lock(config) if ranks.is_first() else nullcontext()
    # Who stops it is heard from here on, also before the first step.
    with ranks.group(device), lock, StopRequest() as stop:
        if settings.engine == "own":
            stream = _train(config, data, model_config, fresh, stop)
        else:
            # Their imports take seconds that the own loop can save.
            if settings.objective == "mlm":
                from wikigpt.training.masked import MaskedRun as Run
            else:
                from wikigpt.training.trainer import Run
            stream = Run.train(config, data, model_config, fresh, stop, say)
        try:
            yield from with_its_own_random_numbers(stream)
        except torch.OutOfMemoryError:
            raise out_of_memory() from None


def with_its_own_random_numbers(stream: Iterator[events.Event]) -> Iterator[events.Event]:
    """The same events; between them the random generators are the reader's, as they were.

    So a cell that draws numbers while it watches a run changes nothing of it (which dropout would
    show), and a run leaves the reader's numbers alone.
    """
    ours = None

    def swapped(work: Callable[[], Any]) -> Any:
        nonlocal ours
        theirs = checkpoint.random_state()
        if ours:
            checkpoint.set_random_state(ours)
        try:
            return work()
        finally:
            ours = checkpoint.random_state()
            checkpoint.set_random_state(theirs)

    try:
        while (event := swapped(lambda: next(stream, None))) is not None:
            yield event
    finally:
        swapped(stream.close)


def _train(
    config: Config, data: Prepared, model_config: GPTConfig, fresh: Fresh, stop: StopRequest
) -> Iterator[events.Event]:
    settings, first = config.training, ranks.is_first()
    folder = ranks.first_does(lambda: open_run(config, data, fresh))
    last, best = folder / "checkpoints" / "last", folder / "checkpoints" / "best"
    # `best` is as complete as `last`, only older.
    start = last if checkpoint.find(last) else best
    state = checkpoint.load_state(start) if checkpoint.find(start) else None
    # What "auto" chose in the first part of a run holds for all of it, or the bits would differ;
    # so it is with `compiled` below.
    hardware = ranks.from_first(
        detect(replace(settings, precision=state["precision"]) if state else settings)
    )
    if state:
        hardware = replace(hardware, why="as in the first part of this run")
    torch.manual_seed(config.seed)
    model = GPT(model_config).to(hardware.device)
    optimizer = make_optimizer(model, settings, hardware.precision)
    progress, compiled = Progress(), None
    if state:
        compiled = state.get("compiled", False)  # older checkpoints have none
        model.load_state_dict(checkpoint.load_model(start).state_dict())
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
        if state["progress"]["best"]:
            progress.best = events.Evaluation(**state["progress"]["best"])
        checkpoint.set_random_state(state["random"])
        if not isinstance(data.train, TokenBlocks):
            data.train.load_state_dict(state["blocks"])
    model.train()

    def save(path: Path) -> events.Checkpoint:
        state = {
            "optimizer": optimizer.state_dict(),
            "progress": asdict(progress),
            "random": checkpoint.random_state(),
            "precision": hardware.precision,
            "compiled": compiled,
        }
        if not isinstance(data.train, TokenBlocks):  # the place in shards is the number of the step
            state["blocks"] = data.train.state_dict()
        if first:
            checkpoint.save(path, model, state)
        return events.Checkpoint(progress.step, relative(path))

    logger = RunLogger(folder, progress.step, hyperparameters(config)) if first else NoLogger()

    try:
        if progress.step < settings.max_steps and not stop.heard():
            flight, forward = preflight(config, data, hardware, model, progress.step, compiled)
            compiled = forward.compiled
            yield flight
        while True:
            done = progress.step == settings.max_steps
            due = done or progress.step % settings.eval_interval == 0
            if due and progress.evaluated_at < progress.step and not stop.heard():
                evaluation = evaluate_run(config, data, hardware, model, progress)
                sample = write_sample(config, data, model, progress.step)
                logger.log(evaluation)
                logger.log(sample)
                if evaluation.is_best:
                    save(best)  # before `last`, which says that `best` is there
                saved = save(last)
                yield from (evaluation, sample, saved)
            if stop.heard():
                yield save(last)
                yield events.Stopped(progress.step, stop.reason)
                return
            if done:
                break
            step = _optimizer_step(config, data, hardware, model, forward.call, optimizer, progress)
            logger.log(step)
            yield step
        yield events.Finished(progress.step, progress.seconds, progress.best)
    except GeneratorExit:
        if progress.step:
            save(last)
        raise
    finally:
        logger.close()


def _optimizer_step(
    config: Config,
    data: Prepared,
    hardware: Hardware,
    model: GPT,
    forward: Callable[..., Any],
    optimizer: torch.optim.Optimizer | Optimizers,
    progress: Progress,
) -> events.Step:
    """One update of the weights: forward and backward over all micro-batches, clip, step."""
    settings = config.training
    start = time.perf_counter()
    size = settings.micro_batch_size
    if isinstance(data.train, TokenBlocks):
        indices = indices_of_step(
            config, len(data.train), progress.step, ranks.rank(), ranks.world_size()
        )
        ids_BT, targets_BT = data.train.batch(indices)
        which = f" (blocks {', '.join(map(str, indices[:8]))}…)"
    else:
        batch = data.train.batch(size * settings.grad_accumulation_steps)
        ids_BT, targets_BT = map(ranks.my_share, batch)
        which = ""
    n_tokens = int(ranks.total(int((targets_BT != IGNORE).sum()), hardware.device))
    loss = 0.0
    for ids, targets in zip(ids_BT.split(size), targets_BT.split(size), strict=True):
        # Each token weighs the same, however the batch is cut into micro-batches.
        share = int((targets != IGNORE).sum()) / n_tokens
        with hardware.autocast():
            _, mean_loss = forward(ids.to(hardware.device), targets.to(hardware.device))
        (mean_loss * share).backward()
        loss += mean_loss.item() * share
    loss = ranks.total(loss, hardware.device)
    ranks.sum_gradients(model)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip).item()
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        # Before the weights are touched; what a finite gradient wrecks, the evaluation notices.
        where = f"at step {progress.step + 1}, in batch {progress.step}{which}"
        raise diverged(config, f"The loss became {loss} (gradient norm {grad_norm}) {where}")
    learning_rate = learning_rate_at(progress.step, settings)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("share", 1.0)  # older checkpoints have none
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    synchronize(hardware.device)

    seconds = time.perf_counter() - start
    progress.step += 1
    progress.tokens += n_tokens
    progress.seconds += seconds
    return events.Step(
        step=progress.step,
        loss=loss,
        bits_per_byte=bits_per_byte(loss, data.train_counts),
        learning_rate=learning_rate,
        grad_norm=grad_norm,
        tokens=progress.tokens,
        tokens_per_second=n_tokens / seconds,
        mfu=n_tokens / seconds * model.flops_per_token / (hardware.peak_flops * ranks.world_size()),
        seconds=progress.seconds,
    )

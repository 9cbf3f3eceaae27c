"""Before a run takes off: what it is, what it should cost, whether its first loss is right."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import torch

from wikigpt.blocks.prepare import Prepared
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.config import Config, relative
from wikigpt.model.gpt import GPT
from wikigpt.training import checkpoint, events, ranks
from wikigpt.training.compiling import Forward, choose_forward
from wikigpt.training.hardware import Hardware, synchronize
from wikigpt.training.optim import bytes_of_state, make_optimizer


def preflight(
    config: Config,
    data: Prepared,
    hardware: Hardware,
    model: GPT,
    done_steps: int,
    compiled: bool | None = None,
) -> tuple[events.Preflight, Forward]:
    """Time a few forward and backward passes, and throw their gradients away.

    Args:
        compiled: what an earlier part of this run chose; None in the first.
    """
    settings = config.training
    random = checkpoint.random_state()
    losses = []
    if hardware.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # an earlier run in this process had its own

    def measure(*forwards: Callable[..., Any]) -> list[float]:
        best = [math.inf] * len(forwards)
        batches = _micro_batches(config, data, done_steps, 3 * len(forwards))
        try:
            for turn, (ids, targets) in enumerate(batches):
                for i, forward in enumerate(forwards):
                    start = time.perf_counter()
                    with hardware.autocast():
                        _, loss = forward(ids.to(hardware.device), targets.to(hardware.device))
                    loss.backward()
                    losses.append(loss.item())
                    if turn:  # the first also pays for start-up
                        best[i] = min(best[i], time.perf_counter() - start)
        finally:  # a compiled pass that fails half-way leaves some too
            model.zero_grad(set_to_none=True)
        return best

    passes_a_step = settings.grad_accumulation_steps / ranks.world_size()  # of this process
    passes = round((settings.max_steps - done_steps) * passes_a_step)
    forward = choose_forward(model, settings, measure, passes, compiled, hardware.precision)
    checkpoint.set_random_state(random)
    tokens_a_pass = settings.micro_batch_size * config.model.block_size
    if hardware.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = psutil.Process().memory_info().rss
    if not done_steps:
        memory += bytes_of_state(model, settings)
    counts = data.validation.counts
    event = events.Preflight(
        run=relative(config.run_path),
        device=hardware.device.type,
        precision=hardware.precision,
        why_precision=hardware.why,
        compiled=forward.compiled,
        why_compiled=forward.why,
        parameters=model.n_parameters,
        train_tokens=data.train_counts.tokens,
        validation_tokens=counts.tokens,
        tokens_per_step=tokens_a_pass * settings.grad_accumulation_steps,
        max_steps=settings.max_steps,
        done_steps=done_steps,
        eval_interval=settings.eval_interval,
        first_loss=losses[0],
        log_vocab_size=math.log(data.tokenizer.vocab_size),
        seconds_per_step=forward.seconds * passes_a_step
        + _optimizer_seconds(model, config, hardware),
        # A forward pass is a third of forward and backward; every process evaluates all.
        evaluation_seconds=forward.seconds / tokens_a_pass * counts.tokens / 3,
        memory_bytes=memory,
        peak_flops=hardware.peak_flops,
    )
    return event, forward


def _optimizer_seconds(model: GPT, config: Config, hardware: Hardware) -> float:
    """Of one step of the optimizer, on a copy that is thrown away."""
    twin = copy.deepcopy(model)
    optimizer = make_optimizer(twin, config.training, hardware.precision)
    for parameter in twin.parameters():
        parameter.grad = torch.ones_like(parameter)
    seconds = []
    # The first also makes the optimizer's state.
    for _ in range(3):
        start = time.perf_counter()
        optimizer.step()
        synchronize(hardware.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _micro_batches(
    config: Config, data: Prepared, step: int, n: int
) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Some of what the steps from `step` on will see, the very first micro-batch first."""
    size = config.training.micro_batch_size
    if isinstance(data.train, TokenBlocks):
        indices = (indices_of_step(config, len(data.train), step + k)[:size] for k in range(n))
        return map(data.train.batch, indices)
    ids_BT, targets_BT = data.train.peek(n * size)
    return zip(ids_BT.split(size), targets_BT.split(size), strict=True)

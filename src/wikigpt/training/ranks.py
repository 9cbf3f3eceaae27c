"""One process or several, as `torchrun` starts them; torch.distributed does the work.

    torchrun --nproc-per-node 2 -m wikigpt pretrain configs/gpt2-mini.yaml

A step's blocks are divided among the processes, so a config stands for the same batches and the
same losses however many work on it (but for dropout, whose masks each draws for its own blocks):
`grad_accumulation_steps` is of all processes together. The first of them (rank 0) writes the run's
folder. Evaluations are done by every process: one that evaluated alone would not be done sooner,
and all must agree on what is best.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from wikigpt.config import Config
from wikigpt.errors import UserError


def rank() -> int:
    return int(os.environ.get("RANK") or 0)


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_first() -> bool:
    return rank() == 0


def check(config: Config) -> None:
    """
    Raises:
        UserError: the micro-batches of a step can't be divided among the processes.
    """
    steps, n = config.training.grad_accumulation_steps, world_size()
    if steps % n:
        raise UserError(
            f"{n} processes can't share grad_accumulation_steps={steps} evenly; make it a multiple "
            f"of {n}, and micro_batch_size as much smaller, which changes nothing else."
        )


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Where there are several processes, they know each other while this is entered."""
    if world_size() == 1:
        yield
        return
    take_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def take_device(device: torch.device) -> None:
    """Each process has a GPU of its own; which one is remembered for each thread apart."""
    if device.type == "cuda" and world_size() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def wait_for_all() -> None:
    if world_size() > 1:
        dist.barrier()


def from_first(value: Any) -> Any:
    """What the first process has, whatever this one has."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def first_does(work: Callable[[], Any]) -> Any:
    """What `work()` returns in the first process, which alone does it.

    Raises:
        UserError: there; here too, or the others would wait for one that has left.
    """
    done, error = None, None
    if is_first():
        try:
            done = work()
        except UserError as raised:
            error = str(raised)
    done, error = from_first((done, error))
    if error:
        raise UserError(error)
    return done


def from_any(value: Any) -> Any:
    """The first value that is not None, of all processes."""
    if world_size() == 1:
        return value
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return next((v for v in values if v is not None), None)


def total(value: float, device: torch.device) -> float:
    """The sum over all processes."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def sum_gradients(model: torch.nn.Module) -> None:
    """Every process gets the sum of all processes' gradients."""
    if world_size() > 1:
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)


def my_share(rows: torch.Tensor) -> torch.Tensor:
    """This process's rows of a batch that all have."""
    share = len(rows) // world_size()
    return rows[rank() * share : (rank() + 1) * share]

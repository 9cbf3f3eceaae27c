"""What this machine has, measured: the device, the faster precision, the peak for MFU."""

import ctypes
import math
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from wikigpt.config import TrainingConfig
from wikigpt.errors import UserError

# bf16 costs digits, so it must be clearly faster to be taken.
WORTHWHILE = 1.5


@dataclass(frozen=True)
class Hardware:
    device: torch.device
    precision: str
    """`fp32`, or `bf16`: matrix products in bfloat16 over float32 weights (autocast)."""
    why: str
    peak_flops: float
    """Measured speed of a large matrix product in that precision, FLOP/s."""

    def autocast(self) -> AbstractContextManager:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def pick_device(wish: str) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wish == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[wish]:
        raise UserError(f"training.device is {wish!r}, but torch sees no such device here.")
    return torch.device(wish)


def detect(config: TrainingConfig) -> Hardware:
    """The device to train on, and the precision with the reason for it."""
    device = pick_device(config.device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if config.precision != "auto":
        (speed,) = matmul_flops(device, [dtypes[config.precision]])
        return Hardware(device, config.precision, "asked for", speed)
    fp32, bf16 = matmul_flops(device, list(dtypes.values()))
    ratio = f"a bf16 matrix product runs at {bf16 / fp32:.2g}x the speed of fp32 here"
    if bf16 >= WORTHWHILE * fp32:
        return Hardware(device, "bf16", ratio, bf16)
    return Hardware(device, "fp32", ratio, fp32)


def matmul_flops(
    device: torch.device, dtypes: Sequence[torch.dtype], seconds: float = 0.4
) -> list[float]:
    """The best speed of a square matrix product in each precision, in FLOP/s.

    They take turns for about `seconds`: other work on the machine comes and goes, and would slow
    one of them down if each had its own time.
    """
    n = 512 if device.type == "cpu" else 4096
    pairs = [[torch.randn(n, n, device=device).to(dtype) for _ in range(2)] for dtype in dtypes]
    best, deadline = [math.inf] * len(pairs), time.perf_counter() + seconds
    rounds = 0
    while rounds < 8 or time.perf_counter() < deadline:
        for i, (a, b) in enumerate(pairs):
            start = time.perf_counter()
            a @ b
            synchronize(device)
            if rounds:  # the first also pays for start-up
                best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    return [2 * n**3 / its for its in best]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def keep_freed_memory() -> None:
    """Ask the C library for the memory of the last step again, not for new pages of the system.

    A step on a CPU frees and takes the same few hundred MiB each time. By itself, glibc gives large
    blocks back at once and gets them anew, page by page, each filled with zeros first: 37,000 page
    faults a step at 0.5 M parameters (EXPERIMENTS.md, 11). Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # M_TRIM_THRESHOLD… of malloc.h
        if not libc.mallopt(mmap_threshold, 2**30):  # before 2.35 it was 32 MiB at most
            libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)

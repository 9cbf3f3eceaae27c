import platform
import subprocess
import sys

import pytest
import torch

from wikigpt.config import TrainingConfig
from wikigpt.training import hardware
from wikigpt.training.hardware import detect

FAULTS = """
import ctypes
import resource
import sys
import torch
from wikigpt.training.hardware import keep_freed_memory

class Before235(ctypes.CDLL):  # glibc, which refused large thresholds
    def __getattr__(self, name):
        if name != "mallopt":
            return super().__getattr__(name)
        real = super().__getattr__(name)
        return lambda what, value: 0 if what == -3 and value > 2**25 else real(what, value)

if sys.argv[1] == "older":
    ctypes.CDLL = Before235

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():  # 64 MiB, written and freed
    torch.ones(4096, 4096).mul(2)

for keep in (False, True):
    if keep:
        keep_freed_memory()
    before = faults()
    for _ in range(100):
        step()
    print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is asked to")
@pytest.mark.parametrize("glibc", ["newer", "older"])
def test_a_step_asks_the_system_for_no_new_pages(glibc):
    command = [sys.executable, "-c", FAULTS, glibc]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    by_itself, kept = map(int, out.stdout.split())
    # Huge pages, where a machine gives them unasked, make fewer faults of both. The first steps ask
    # for what is kept, and now and then a later one, where something small lies in its way.
    assert 10 * kept < by_itself, (by_itself, kept)


def test_bf16_is_taken_where_its_products_are_clearly_faster(monkeypatch):
    # A processor without bf16 emulates it, a hundred times slower.
    for ratio, expected in ((0.013, "fp32"), (1.4, "fp32"), (1.6, "bf16")):
        speeds = {torch.float32: 1e9, torch.bfloat16: ratio * 1e9}
        measured = lambda _, dtypes, its=speeds: [its[dtype] for dtype in dtypes]  # noqa: E731
        monkeypatch.setattr(hardware, "matmul_flops", measured)
        found = detect(TrainingConfig(device="cpu"))
        assert (found.precision, found.peak_flops) == (expected, speeds[
            torch.bfloat16 if expected == "bf16" else torch.float32
        ])  # fmt: skip
        assert f"{ratio}x the speed of fp32" in found.why
        for asked in ("fp32", "bf16"):
            assert detect(TrainingConfig(device="cpu", precision=asked)).precision == asked


@pytest.mark.parametrize("busy", [(0.0, 0.3), (0.1, 0.4)], ids=["at first", "later"])
def test_other_work_that_comes_and_goes_does_not_change_the_ratio(monkeypatch, busy):
    now = 0.0

    class Matrix:
        def __init__(self, dtype=torch.float32):
            self.seconds = 0.001 if dtype == torch.bfloat16 else 0.002

        def to(self, dtype):
            return Matrix(dtype)

        def __matmul__(self, _):
            nonlocal now
            now += self.seconds * (20 if busy[0] <= now < busy[1] else 1)

    monkeypatch.setattr(torch, "randn", lambda *_, **__: Matrix())
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: now)
    dtypes = [torch.float32, torch.bfloat16]
    fp32, bf16 = hardware.matmul_flops(torch.device("cpu"), dtypes)
    assert fp32 == pytest.approx(2 * 512**3 / 0.002) and bf16 == pytest.approx(2 * fp32)

"""`torch.compile` where it pays within the run that is planned, plain PyTorch elsewhere.

Compiled, the many small operations of a step become a few long ones. Compilation takes half a
minute, so a short run is over sooner without it; and on a CPU it needs a C++ compiler. So it is
tried where it can earn its time back, measured, and kept where it is faster. Blocks are alike, so
they are compiled as one, and the output layer with the loss; the whole model in one piece took a
fifth to a third longer, and was no faster (EXPERIMENTS.md, 12). Rejected: to compile the evaluation
and the sampling too, which would each take as long again, for a few per cent of a run.

Compiled code adds up in another order, so the last digits of a loss differ. That is why a run keeps
what its first part chose, and a resumed one ends with the same bits.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wikigpt.config import TrainingConfig
from wikigpt.errors import UserError
from wikigpt.model.gpt import GPT
from wikigpt.training import ranks

# A first compilation took 23 to 30 s on two CPU cores, but up to 50 on slow ones; one that finds
# its parts on the disk 1 to 8.
SECONDS = 28
# The share of a step's time that it can be hoped to save. RMSNorm and rotary positions are many
# small operations, where LayerNorm is one; measured in bf16, on CPUs with units for it: 0.16 for
# gpt2, 0.19 to 0.36 for modern. Where matrix products are slow, little else is left to save; on a
# CPU without such units, in fp32: 0.00, and 0.01 to 0.13.
HOPE = {
    ("gpt2", "bf16"): 0.15, ("modern", "bf16"): 0.3,
    ("gpt2", "fp32"): 0.05, ("modern", "fp32"): 0.07,
}  # fmt: skip


@dataclass(frozen=True)
class Forward:
    """What the training loop calls in place of the model, whose weights it shares."""

    call: Callable[..., Any]
    compiled: bool
    why: str
    seconds: float
    """Of one forward and backward pass over a micro-batch."""
    compile_seconds: float = 0.0
    """What the compilation took."""


def choose_forward(
    model: GPT,
    config: TrainingConfig,
    measure: Callable[..., list[float]],
    passes: int,
    before: bool | None,
    precision: str,
) -> Forward:
    """The model as it is, or compiled.

    Args:
        measure: does some forward and backward passes with each forward that it is given, in
            turns, and tells the seconds of each one's fastest.
        passes: how many the run has yet to do.
        before: what an earlier part of the run chose; None in the first.
        precision: `bf16` or `fp32`, of the matrix products.

    Raises:
        UserError: it fails, and the config or an earlier part of the run says that it must be.
    """
    (plain,) = measure(model)
    if config.engine == "trainer":
        return Forward(model, False, "the own loop alone does that", plain)
    wish = config.compile if before is None else before
    if wish == "auto":
        # The first process speaks for all: they must not part ways.
        expected = ranks.from_first(plain * passes)
        if next(model.parameters()).device.type == "mps":
            return Forward(model, False, "never tried on MPS", plain)
        if HOPE[model.config.arch, precision] * expected < SECONDS:
            why = f"a run of about {expected:.0f} s would not earn the compilation back"
            return Forward(model, False, why, plain)
    elif not wish:
        return Forward(model, False, _why(before), plain)
    started = time.perf_counter()
    try:
        compiled = compile_parts(model)
        measure(compiled)  # the first pass compiles
        took = time.perf_counter() - started
        # Again, and in turns: the machine may have been busier before, or may be now.
        plain, seconds = measure(model, compiled)
    except Exception as error:  # whatever a compiler may come up with
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if wish == "auto":
            return Forward(model, False, f"torch.compile fails here: {reason}", plain)
        raise UserError(
            f"torch.compile fails here ({reason}), and {_must(before)}; install a C++ compiler, or "
            "train under another name with compile=false."
        ) from None
    ratio = ranks.from_first(plain / seconds)
    gain = f"a pass runs at {ratio:.2f}x the speed, after {took:.0f} s of compiling"
    if wish == "auto" and ratio < 1.05:
        return Forward(model, False, gain, plain)
    return Forward(compiled, True, gain if before is None else _why(before), seconds, took)


def compile_parts(model: GPT) -> GPT:
    """The same model, of the same weights, that calls compiled parts; the given one stays."""
    # Without it, the ninth model of one notebook would silently not be compiled any more.
    torch.compiler.reset()
    compiled = copy.copy(model)
    # Shapes never change in training; guessing that they might makes slower code.
    blocks = nn.ModuleList(torch.compile(block, dynamic=False) for block in model.blocks)
    compiled._modules = model._modules | {"blocks": blocks}
    compiled.predict = torch.compile(model.predict, dynamic=False)
    return compiled


def _why(before: bool | None) -> str:
    return "asked for" if before is None else "as in the first part of this run"


def _must(before: bool | None) -> str:
    return (
        "compile=true asks for it" if before is None else "the first part of this run was compiled"
    )

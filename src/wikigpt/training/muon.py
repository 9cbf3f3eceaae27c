"""Muon: a step that moves all directions of a matrix alike (Jordan et al., 2024).

A gradient is a sum of directions, a few of them far stronger than the rest. Muon keeps the
directions and brings all strengths, the singular values, near 1; notebook 7 does it by hand.

Its twin is torch.optim.Muon: the same steps in bf16, the same state in a checkpoint. Two things are
different here, both for speed. The products run in the precision that the machine is fast in;
torch's always run in bf16, which a CPU without it in hardware has to emulate, at a fiftieth of the
speed of fp32 (EXPERIMENTS.md, 11). And all matrices of one shape go together, as small products
leave a processor idle. Rejected: torch.compile of the step, which costs seconds at the start.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

# Chosen by Jordan et al. to lift small values fast; what is between 0 and 1 comes to 0.7 to 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonalise(matrices_NRC: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """All singular values of each matrix to about 1, by five rounds of Newton and Schulz.

    An odd polynomial of a matrix is the same polynomial of each of its singular values.

    Args:
        matrices_NRC: N matrices of R rows and C columns.
        dtype: in which to compute; the result has it too.
    """
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x_NRC = (matrices_NRC.mT if tall else matrices_NRC).to(dtype)
    x_NRC = x_NRC / x_NRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # now none is above 1
    for _ in range(ROUNDS):
        xx_NRR = x_NRC @ x_NRC.mT
        more_NRR = torch.baddbmm(xx_NRR, xx_NRR, xx_NRR, beta=B, alpha=C)
        x_NRC = torch.baddbmm(x_NRC, more_NRR, x_NRC, beta=A)  # A x + (B xxᵀ + C (xxᵀ)²) x
    return x_NRC.mT if tall else x_NRC


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, times `lr` and √(rows / columns) where there are more rows.

    Args:
        params: matrices only; embeddings, norms and biases are no maps from vectors to vectors.
        weight_decay: decoupled, as in AdamW.
        momentum: of the average of gradients, with Nesterov's look ahead.
        dtype: of the products.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 0.02, weight_decay: float = 0.0,
        momentum: float = 0.95, dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for (rows, columns), matrices in alike.items():
                averages = torch.stack([self._look_ahead(p, group["momentum"]) for p in matrices])
                size = group["lr"] * math.sqrt(max(1, rows / columns))
                for matrix, step in zip(matrices, orthogonalise(averages, self.dtype), strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(step, alpha=-size)
        return loss

    def _look_ahead(self, matrix: torch.Tensor, momentum: float) -> torch.Tensor:
        """Update the average of its gradients; where it will be if this gradient comes again."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)

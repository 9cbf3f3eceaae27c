"""Which optimizer moves which parameters, and the learning rate as a function of the step.

`adamw` treats all parameters alike. `muon` gives the matrices inside the blocks to Muon, which
looks at a matrix as a map from vectors to vectors, and everything else to AdamW.

Learning rates that transfer. A rate found on a narrow model should be right for a wide one, so one
step must change what a layer puts out by the same amount at any width C:

- Matrices (Muon). The step is a matrix whose singular values are all about 1, times
  max(1, rows / columns)^½, and shapes keep their proportions when a model grows. So no factor is
  needed: this is the spectral condition of Yang, Simon & Bernstein (2023). Rejected: torch's other
  scaling, `match_rms_adamw`, whose steps grow with √C: it can take over a rate found for AdamW, and
  inherits that this must be found again for each width.
- Embeddings (AdamW, whose step is about ±rate in each element). As the input they need no factor.
  As the output layer they are summed over C channels, which asks for 1 / C (muP, Yang et al., 2022,
  table 8); tied as they are, they can't have both. muP multiplies the logits by 1 / C instead, and
  arch=modern does so with a weight that it has anyway: the gains of its last norm begin at a
  constant / C.
- Those last gains (AdamW) so learn at 1 / C of the rate of other norms and biases, which need no
  factor.

With arch=gpt2 the last gains begin at 1 as they did in GPT-2, so embedding_learning_rate must be
found again for each width.
"""

import math
from typing import Any

import torch
from torch import nn

from wikigpt.config import TrainingConfig
from wikigpt.training.muon import Muon


class Optimizers:
    """Several optimizers that act as one; what the loop and the checkpoints need of one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, its in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)


def make_optimizer(
    model: nn.Module, config: TrainingConfig, precision: str = "fp32"
) -> torch.optim.AdamW | Optimizers:
    """All parameters, each in exactly one group.

    A group's learning rate is `learning_rate_at(step)` times its `"share"`.

    Matrices decay (with adamw the embeddings too, as in GPT-2's successors); biases and norms
    never do: pulling a norm's gain towards 0 would fight what it is for. With muon the embeddings
    don't decay either: at their high rate a rare token's would be gone before it is seen again.

    Args:
        precision: `bf16` or `fp32`, of what the optimizer multiplies (muon alone does).
    """
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        vectors = [p for p in model.parameters() if p.dim() < 2]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay, "share": 1.0},
            {"params": vectors, "weight_decay": 0.0, "share": 1.0},
        ]
        _check_partition(model, groups)
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)

    named = dict(model.named_parameters())
    matrices = _hidden_matrices(model)
    embeddings = [p for n, p in named.items() if n.endswith("embedding.weight")]
    last = [p for n, p in named.items() if n.startswith("final_norm.")]
    vectors = [p for n, p in named.items() if n.startswith("blocks.") and p.dim() == 1]
    high, low = config.embedding_learning_rate, config.vector_learning_rate
    by_muon = [{"params": matrices, "lr": config.learning_rate}]
    by_adamw = [
        {"params": embeddings, "lr": high},
        {"params": vectors, "lr": low},
        {"params": last, "lr": low * model.output_scale},
    ]
    for group in by_muon + by_adamw:
        group["share"] = group["lr"] / config.learning_rate
    _check_partition(model, by_muon + by_adamw)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return Optimizers(
        Muon(by_muon, weight_decay=config.weight_decay, dtype=dtype),
        torch.optim.AdamW(by_adamw, weight_decay=0.0, betas=betas, fused=True),
    )


def _hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    named = model.named_parameters()
    return [p for name, p in named if name.startswith("blocks.") and p.dim() == 2]


def bytes_of_state(model: nn.Module, config: TrainingConfig) -> int:
    """What the optimizer will hold from its first step on: AdamW two numbers of four bytes for a
    parameter, Muon one."""
    by_muon = _hidden_matrices(model) if config.optimizer == "muon" else []
    return 8 * sum(p.numel() for p in model.parameters()) - 4 * sum(p.numel() for p in by_muon)


def _check_partition(model: nn.Module, groups: list[dict[str, Any]]) -> None:
    """A parameter that no optimizer moves, or two do, is a mistake that no loss curve shows."""
    grouped = [id(p) for group in groups for p in group["params"]]
    wrong = [n for n, p in model.named_parameters() if grouped.count(id(p)) != 1]
    if wrong:
        raise ValueError(f"Not in exactly one group of the optimizer: {', '.join(wrong)}.")


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Linear warmup, then what `schedule` says, down to `final_learning_rate_fraction` of the peak.

    cosine: half a cosine. wsd: the peak until the last `decay_fraction` of all steps, then a line
    (Hu et al., 2024; Hägele et al., 2024): no step before it depends on how long the run will be.

    `step` counts from 0; the last step is `max_steps - 1`.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    low, last = config.final_learning_rate_fraction, config.max_steps - 1
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, last - max(1, round(config.decay_fraction * config.max_steps)))
    progress = min(1.0, max(0, step - begin) / max(1, last - begin))
    cosine = config.schedule == "cosine"
    height = 0.5 * (1 + math.cos(math.pi * progress)) if cosine else 1 - progress
    return config.learning_rate * (low + (1 - low) * height)

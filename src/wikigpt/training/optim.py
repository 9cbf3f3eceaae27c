"""AdamW with decay on matrices only, and the learning rate as a function of the step."""

import math

import torch
from torch import nn

from wikigpt.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) over all parameters, each in exactly one group.

    Matrices (embeddings too, as in GPT-2's successors) decay; biases and norms do not: pulling a
    norm's gain towards 0 would fight what it is for.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
    )


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Linear warmup, then half a cosine down to `final_learning_rate_fraction` of the peak.

    `step` counts from 0; the last step is `max_steps - 1`.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.max_steps - config.warmup_steps - 1)
    progress = min(1.0, (step - config.warmup_steps) / span)
    low = config.final_learning_rate_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))

"""Two classic recipes, as plainly as their own code has them; time_to_quality.py races them.

- `lecture`: that of a well-known lecture (ng-video-lecture): a Python loop over the heads, ReLU,
  dropout 0.2, AdamW at a constant rate of 3e-4, fp32, batch 64;
- `nanogpt`: nanoGPT's for a CPU: no dropout, AdamW at 1e-3 with warmup and cosine, batch 12.

Both at 2 layers of 128 and a context of 256, so that they are of one size. The lecture's output
layer is not tied to its embedding, so it has a few parameters more.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

BLOCK, WIDTH, LAYERS = 256, 128, 2


class Head(nn.Module):
    """One head of the lecture's attention, with the T x T matrix written out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.key = nn.Linear(WIDTH, size, bias=False)
        self.query = nn.Linear(WIDTH, size, bias=False)
        self.value = nn.Linear(WIDTH, size, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(BLOCK, BLOCK)))
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T = x.shape[1]
        k = self.key(x)
        scores = self.query(x) @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
        scores = scores.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return self.dropout(F.softmax(scores, dim=-1)) @ self.value(x)


class LectureBlock(nn.Module):
    def __init__(self, n_head: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(WIDTH // n_head) for _ in range(n_head))
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.2)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.2)
        )
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.dropout(self.proj(torch.cat([head(y) for head in self.heads], dim=-1)))
        return x + self.mlp(self.norm2(x))


class NanoBlock(nn.Module):
    """nanoGPT's block without biases: fused attention, GELU."""

    def __init__(self, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.attention = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attention_projection = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.projection = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        parts = self.attention(self.norm1(x)).split(C, dim=2)
        q, k, v = (part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_projection(y.transpose(1, 2).reshape(B, T, C))
        return x + self.projection(F.gelu(self.up(self.norm2(x))))


class Classic(nn.Module):
    """Embeddings, blocks, a last norm and the output layer, as both recipes have them."""

    def __init__(self, vocab_size: int, block: Callable, n_head: int, tied: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*(block(n_head) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=not tied)
        self.output = nn.Linear(WIDTH, vocab_size, bias=not tied)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                narrow = tied and "projection" in name
                std = 0.02 / math.sqrt(2 * LAYERS) if narrow else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied:
            self.output.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.output(self.norm(self.blocks(x)))


@dataclass(frozen=True)
class Recipe:
    batch: int
    rate: float
    model: Callable[[int], nn.Module]
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer]
    height: Callable[[int, int], float]
    """The share of the rate at a step of so many."""
    clip: float | None = None


def nanogpt_optimizer(
    model: nn.Module, rate: float, weight_decay: float = 0.1, beta2: float = 0.99
) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, beta2))


def nanogpt_height(step: int, steps: int, lowest: float = 0.1) -> float:
    warmup = 100
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


RECIPES = {
    "lecture": Recipe(
        batch=64, rate=3e-4,
        model=lambda vocab_size: Classic(vocab_size, LectureBlock, n_head=4, tied=False),
        optimizer=lambda model, rate: torch.optim.AdamW(model.parameters(), lr=rate),
        height=lambda step, steps: 1.0,
    ),
    "nanogpt": Recipe(
        batch=12, rate=1e-3,
        model=lambda vocab_size: Classic(vocab_size, NanoBlock, n_head=4, tied=True),
        optimizer=nanogpt_optimizer, height=nanogpt_height, clip=1.0,
    ),
}  # fmt: skip


def train_classic(
    recipe: Recipe, tokens: torch.Tensor, vocab_size: int, steps: int, seed: int
) -> Iterator[nn.Module]:
    """A loop as tutorials write it: random offsets, one batch a step; the model after each step.

    Args:
        tokens: the training text, int64, one after the other.
    """
    torch.manual_seed(seed)
    model = recipe.model(vocab_size).train()
    optimizer = recipe.optimizer(model, recipe.rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * recipe.height(step, steps)
        offsets = torch.randint(len(tokens) - BLOCK - 1, (recipe.batch,))
        ids = torch.stack([tokens[i : i + BLOCK] for i in offsets])
        targets = torch.stack([tokens[i + 1 : i + 1 + BLOCK] for i in offsets])
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        yield model

"""Seconds of training until the same validation loss: two classic recipes, and ours.

    python benchmarks/time_to_quality.py

- `lecture`: the recipe of a well-known lecture (ng-video-lecture), written as it is there: a Python
  loop over the heads, ReLU, dropout 0.2, AdamW at a constant 3e-4, fp32, batch 64;
- `nanogpt`: nanoGPT's recipe for a CPU: no dropout, AdamW at 1e-3 with warmup and cosine, batch 12;
- `ours`: wikigpt.training.train, as a reader starts it.

All read the same tokens of the same split, with a context of 256, and are measured by the same
evaluation on the whole validation split. They take turns: whoever has trained for the shortest time
goes on, so a busy machine slows down all of them alike. The seconds are those of training;
evaluations are left out for all three, and compilation is charged to ours. Parameters are the same
within 5 %: the lecture's output layer is not tied, so it has more than nanogpt, and ours lies
between. nanogpt's cosine ends with its time, so that it may use all of it.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from wikigpt.blocks.prepare import Prepared, prepare
from wikigpt.config import Config, load_config
from wikigpt.evaluation.bits_per_byte import evaluate
from wikigpt.training import events, train

BLOCK, WIDTH, LAYERS = 256, 128, 2
# As benchmarks/sweep.py found it; a little wider, to have as many parameters as the classics.
OURS = {
    "arch": "modern", "activation": "relu2", "n_layer": LAYERS, "n_head": 2, "n_embd": WIDTH,
    "block_size": BLOCK, "intermediate_size": 416, "optimizer": "muon", "learning_rate": 0.01,
    "embedding_learning_rate": 0.01, "vector_learning_rate": 0.01, "schedule": "wsd",
    "decay_fraction": 0.5, "micro_batch_size": 16, "warmup_steps": 20,
    "final_learning_rate_fraction": 0.0, "weight_decay": 0.0, "beta2": 0.95,
}  # fmt: skip

# (seconds of training, tokens trained on, bits per byte), once an evaluation
Curve = Iterator[tuple[float, int, float]]


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


def lecture(data: Prepared, options: argparse.Namespace) -> Curve:
    model = Classic(data.tokenizer.vocab_size, LectureBlock, n_head=4, tied=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lecture_rate)
    return plain_loop("lecture", data, options, model, optimizer, 64, lambda *_: 1.0)


def nanogpt(data: Prepared, options: argparse.Namespace) -> Curve:
    model = Classic(data.tokenizer.vocab_size, NanoBlock, n_head=4, tied=True)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.nanogpt_rate, betas=(0.9, 0.99))
    warmup = 100

    def height(step: int, seconds: float) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, seconds / options.seconds)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))

    return plain_loop("nanogpt", data, options, model, optimizer, 12, height, clip=1.0)


def plain_loop(
    name: str, data: Prepared, options: argparse.Namespace, model: nn.Module,
    optimizer: torch.optim.Optimizer, batch: int, height: Callable[[int, float], float],
    clip: float | None = None,
) -> Curve:  # fmt: skip
    """A loop as tutorials write it: random offsets, one batch a step."""
    print(f"{name:<8} {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    stream = torch.from_numpy(data.train.tokens(0, 10**9))
    seconds, step, peak = 0.0, 0, optimizer.param_groups[0]["lr"]
    model.train()
    while True:
        due = seconds + options.every
        while seconds < due:
            start = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = peak * height(step, seconds)
            offsets = torch.randint(len(stream) - BLOCK - 1, (batch,))
            ids = torch.stack([stream[i : i + BLOCK] for i in offsets])
            targets = torch.stack([stream[i + 1 : i + 1 + BLOCK] for i in offsets])
            loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            seconds += time.perf_counter() - start
            step += 1
        yield seconds, step * batch * BLOCK, evaluate(model, data.validation).bits_per_byte


def ours(config: Config) -> Curve:
    last, compiling = None, 0.0
    started = time.perf_counter()
    for event in train(config, fresh=True, say=lambda _: None):
        if isinstance(event, events.Preflight):
            compiling = (time.perf_counter() - started) if event.compiled else 0.0
            print(
                f"ours     {event.parameters:,} parameters, {event.precision}, compiled: "
                f"{event.why_compiled}", flush=True,
            )  # fmt: skip
        elif isinstance(event, events.Step):
            last = event
        elif isinstance(event, events.Evaluation):
            yield last.seconds + compiling, last.tokens, event.bits_per_byte


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900, help="training time of each classic")
    parser.add_argument("--every", type=float, default=15, help="seconds between evaluations")
    parser.add_argument("--lecture-rate", type=float, default=3e-4)
    parser.add_argument("--nanogpt-rate", type=float, default=3e-3, help="1e-3 is its own")
    parser.add_argument("--steps", type=int, default=1200, help="steps of ours")
    parser.add_argument("--evaluations", type=int, default=20, help="evaluations of ours")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--only", choices=["lecture", "nanogpt"], help="one classic recipe alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        config = load_config(
            **OURS, runs_dir=runs, device="cpu", max_steps=options.steps, seed=options.seed,
            eval_interval=max(1, options.steps // options.evaluations),
        )  # fmt: skip
        data = prepare(config)
        torch.manual_seed(options.seed)
        wanted = [options.only] if options.only else ["lecture", "nanogpt"]
        racing = {name: {"lecture": lecture, "nanogpt": nanogpt}[name](data, options)
                  for name in wanted}  # fmt: skip
        curves = take_turns(racing | {"ours": ours(config)}, options.seconds)
    for name in wanted:
        compare(name, curves[name], curves["ours"])


def take_turns(racing: dict[str, Curve], limit: float) -> dict[str, list[tuple[float, float]]]:
    """Run all of them, always the one that has trained for the shortest time; print and collect."""
    curves = {name: [(0.0, math.inf)] for name in racing}
    began, cpu = time.perf_counter(), time.process_time()
    while racing:
        name = min(racing, key=lambda n: curves[n][-1][0])
        point = next(racing[name], None)
        if point is None:
            del racing[name]
            continue
        seconds, tokens, bits = point
        curves[name].append((seconds, bits))
        speed = tokens / seconds
        print(
            f"{name:<8} {seconds:6.0f} s  {speed:>8,.0f} tokens/s  {bits:.3f} bits/byte", flush=True
        )
        if seconds >= limit:
            racing.pop(name).close()
    share = (time.process_time() - cpu) / (time.perf_counter() - began) / (os.cpu_count() or 1)
    print(
        f"\n{torch.get_num_threads()} threads; share of the CPUs that this process got: {share:.0%}"
    )
    return curves


def compare(name: str, classic: list[tuple[float, float]], ours: list[tuple[float, float]]) -> None:
    """At the best loss of a classic recipe: its seconds, ours, the ratio."""
    seconds, bits = min(classic, key=lambda point: point[1])
    reached = next((point[0] for point in ours if point[1] <= bits), None)
    if reached is None:
        best = min(point[1] for point in ours)
        print(f"{name}: {bits:.3f} bits/byte in {seconds:.0f} s; ours came to {best:.3f} only.")
    else:
        print(
            f"{name}: {bits:.3f} bits/byte in {seconds:.0f} s; ours in {reached:.0f} s: "
            f"{seconds / reached:.1f} times as fast"
        )


if __name__ == "__main__":
    main()

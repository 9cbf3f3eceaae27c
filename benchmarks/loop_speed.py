"""Tokens per second of `train`, by either engine, beside two plain loops, in turns, in one process.

    python benchmarks/loop_speed.py

- `ours`: wikigpt.training.train as it is, with its logging, its checks and its events;
- `ours, at its best`: the same in bf16 and compiled, as it runs by itself where that pays;
- `Trainer`: the same with `engine: trainer`;
- `Trainer, dropout 0.1`: with the dropout that a GPT2Config has if nobody says otherwise;
- `plain, our model`: the usual short loop (random offsets, AdamW, clip) around our GPT;
- `plain, transformers`: the same loop around its twin, GPT2LMHeadModel or Qwen3ForCausalLM.

Memory that `train` keeps (training/hardware.py) is kept for all of them, as they share a process.

Machines are noisy: what counts are the ratios, and each ratio is the median over rounds in which
they took turns. The share of the CPU that this process got is printed. All of it is done with two
sizes of GPT-2 and with the modern shape and batch of configs/five-minutes.yaml, with characters as
tokens and AdamW; about six minutes in all on two quiet cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

from wikigpt.blocks.prepare import prepare
from wikigpt.config import load_config, with_vocabulary
from wikigpt.model import GPT
from wikigpt.model.twin import to_transformers
from wikigpt.training import events, train

# The shape of the model, and the steps a turn.
MODELS = {
    "gpt2 0.5 M": ({}, 15),
    "gpt2 10 M": ({"n_layer": 6, "n_head": 6, "n_embd": 384}, 2),
    "modern 1.4 M": (
        {"arch": "modern", "n_layer": 3, "n_head": 3, "n_embd": 192, "micro_batch_size": 16}, 4
    ),
}  # fmt: skip


def plain_loop(model: torch.nn.Module, stream: torch.Tensor, batch: int, block: int) -> Callable:
    """A loop as tutorials write it; returns a function that does n steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    model.train()

    def steps(n: int) -> None:
        for _ in range(n):
            starts = torch.randint(len(stream) - block - 1, (batch,))
            ids_BT = torch.stack([stream[i : i + block] for i in starts])
            targets_BT = torch.stack([stream[i + 1 : i + 1 + block] for i in starts])
            output = model(ids_BT)
            logits = output if torch.is_tensor(output) else output.logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets_BT.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return steps


def our_loop(config) -> Callable:
    stream = train(config, fresh=True)

    def steps(n: int) -> None:
        while n:
            n -= isinstance(next(stream), events.Step)

    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in options.models:
        compare(*MODELS[name], options.rounds)


def compare(shape: dict, steps_a_turn: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as runs:
        variants = {
            "ours": {},
            "ours, at its best": {"precision": "bf16", "compile": True},
            "Trainer": {"engine": "trainer"},
            "Trainer, dropout 0.1": {"engine": "trainer", "dropout": 0.1},
        }
        if shape.get("arch") == "modern":
            del variants["Trainer, dropout 0.1"]  # Qwen3 has none
        plain = {"precision": "fp32", "compile": False, "runs_dir": runs, "device": "cpu",
                 "eval_interval": 10**9, "max_steps": 10**9}  # fmt: skip
        configs = {
            name: load_config("configs/char-gpt.yaml", name=f"run-{n}", **(plain | shape | variant))
            for n, (name, variant) in enumerate(variants.items())
        }
        config = configs["ours"]
        data = prepare(config)
        stream = torch.from_numpy(data.train.tokens(0, 10**9))
        batch, block = config.training.micro_batch_size, config.model.block_size
        model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
        twin = to_transformers(model)
        twin.config.use_cache = False
        loops = {
            **{name: our_loop(variant) for name, variant in configs.items()},
            "plain, our model": plain_loop(model, stream, batch, block),
            "plain, transformers": plain_loop(twin, stream, batch, block),
        }
        speeds = {name: [] for name in loops}
        started, cpu = time.perf_counter(), time.process_time()
        for turn in range(rounds + 1):
            for name, steps in loops.items():
                start = time.perf_counter()
                steps(steps_a_turn)
                tokens = steps_a_turn * batch * block
                if turn:  # the first round warms up
                    speeds[name].append(tokens / (time.perf_counter() - start))
        wall = time.perf_counter() - started
        share = (time.process_time() - cpu) / wall / (os.cpu_count() or 1)
        loops.clear()  # closes the runs while their folders are there
    print(
        f"{model.n_parameters:,} parameters, batch {batch} x {block}, fp32 but for our best, "
        f"{torch.get_num_threads()} threads, {steps_a_turn} steps a turn; CPU share {share:.0%}"
    )
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ours"], values, strict=True)]
        print(
            f"{name:<20} {statistics.median(values):>9,.0f} tokens/s   ours / this: "
            f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()

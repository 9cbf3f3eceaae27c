"""Tokens per second of `train`, by either engine, beside two plain loops, in turns.

    python benchmarks/loop_speed.py

- `ours`: wikigpt.training.train as it is, with its logging, its checks and its events;
- `ours, at its best`: the same compiled, and in bf16 where that is faster;
- `Trainer`: the same with `engine: trainer`;
- `Trainer, dropout 0.1`: with the dropout that a GPT2Config has if nobody says otherwise;
- `plain, our model`: the usual short loop (random offsets, AdamW, clip) around our GPT;
- `plain, transformers`: the same loop around its twin, GPT2LMHeadModel or Qwen3ForCausalLM.

Each has a process of its own. In one process they slow each other down: beside our Trainer, which
runs in a thread, ours came to three quarters of its speed on two cores, and used one and a half of
them. Probably that is GNU's OpenMP, whose threads sleep between two products, in place of waiting
awake, once a process has more of them than cores.

Machines are noisy: what counts are the ratios, and each ratio is the median over rounds in which
they took turns. The share of the cores that a process got in its turns is printed. All of it is
done with two sizes of GPT-2 and with the modern shape and batch of configs/five-minutes.yaml, with
characters as tokens and AdamW; about six minutes in all on two quiet cores.
"""

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config, with_vocabulary
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


def our_loop(config: Config) -> Callable:
    stream = train(config, fresh=True, say=lambda _: None)

    def steps(n: int) -> None:
        while n:
            n -= isinstance(next(stream), events.Step)

    return steps


def loop(name: str, config: Config) -> Callable:
    if not name.startswith("plain"):
        return our_loop(config)
    data = prepare(config)
    stream = torch.from_numpy(data.train.tokens(0, 10**9))
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    if name == "plain, transformers":
        model = to_transformers(model)
        model.config.use_cache = False
    return plain_loop(model, stream, config.training.micro_batch_size, config.model.block_size)


def serve(name: str, config: Config, n: int, asked: Connection) -> None:
    """Do n steps each time that it is asked to; tell the seconds, and those of the CPU."""
    steps = loop(name, config)
    while asked.recv():
        start, cpu = time.perf_counter(), time.process_time()
        steps(n)
        asked.send((time.perf_counter() - start, time.process_time() - cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in options.models:
        print(name)
        compare(*MODELS[name], options.rounds)


def compare(shape: dict, steps_a_turn: int, rounds: int) -> None:
    variants = {
        "ours": {},
        "ours, at its best": {"precision": "auto", "compile": True},
        "Trainer": {"engine": "trainer"},
        "Trainer, dropout 0.1": {"engine": "trainer", "dropout": 0.1},
        "plain, our model": {},
        "plain, transformers": {},
    }
    if shape.get("arch") == "modern":
        del variants["Trainer, dropout 0.1"]  # Qwen3 has none
    with tempfile.TemporaryDirectory() as runs:
        settings = {"precision": "fp32", "compile": False, "runs_dir": runs, "device": "cpu",
                    "eval_interval": 10**9, "max_steps": 10**9}  # fmt: skip
        speeds, busy = take_turns(
            {
                name: load_config(
                    "configs/char-gpt.yaml", name=f"run-{n}", **(settings | shape | variant)
                )
                for n, (name, variant) in enumerate(variants.items())
            },
            steps_a_turn,
            rounds,
        )
    print(
        f"fp32, but for our best where bf16 is faster; {torch.get_num_threads()} threads, "
        f"{steps_a_turn} steps a turn; they got {busy:.0%} of the cores"
    )
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ours, at its best"], values, strict=True)]
        print(
            f"{name:<20} {statistics.median(values):>9,.0f} tokens/s   our best / this: "
            f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def take_turns(
    configs: dict[str, Config], n: int, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Tokens per second of each in each round, and the share of the cores that they got."""
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name, config in configs.items():
        prepare(config, say=lambda _: None)
        ends[name], its = context.Pipe()
        processes.append(context.Process(target=serve, args=(name, config, n, its), daemon=True))
        processes[-1].start()
        its.close()  # or one that fails would be waited for
    speeds, shares = {name: [] for name in ends}, []
    for turn, (name, end) in itertools.product(range(rounds + 2), ends.items()):
        end.send(True)
        seconds, cpu = end.recv()
        if turn > 1:  # the first two rounds warm up, and compile
            training = configs[name].training
            tokens = n * training.micro_batch_size * configs[name].model.block_size
            speeds[name].append(tokens / seconds)
            shares.append(cpu / seconds / torch.get_num_threads())
    for end, process in zip(ends.values(), processes, strict=True):
        end.send(False)
        process.join()
    return speeds, statistics.mean(shares)


if __name__ == "__main__":
    main()

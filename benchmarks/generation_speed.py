"""Tokens per second of `generate` beside no cache and beside transformers, in turns.

    python benchmarks/generation_speed.py

Each writes 512 tokens after a prompt of 32, with a block size that holds them all:

- `generate`: ours, with its cache of keys and values;
- `batch of 8`: `generate_batch`, eight such texts at once;
- `transformers`: `generate` of the twin, the same weights, with its cache, on its own defaults;
- `no cache`: our model reads all of the text again for each token. It does every 16th of the
  tokens only, evenly from the first to the last.

All draw at temperature 0.7. Weights are random: speed doesn't depend on them. One thread: a step of
one token is too little work to be shared. Machines are noisy: what counts are the ratios, and each
is the median over rounds in which all took turns. The share of a core that this process got is
printed, and ratios of its CPU time, which a busy machine disturbs less.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from wikigpt.config import DecodingConfig
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.decoding import next_token
from wikigpt.model.generate import generate, generate_batch
from wikigpt.model.twin import to_transformers

SHAPES = {"0.5 M": (2, 2, 128), "10 M": (6, 6, 384)}
PROMPT = list(range(1, 33))
EVERY, BATCH = 16, 8
WARM = {"temperature": 0.7}


def writers(model: GPT) -> dict[str, Callable[[int], int]]:
    """Functions that write n tokens a text, and return how many they really made."""
    twin = to_transformers(model)
    prompt_1T = torch.tensor([PROMPT])
    whole_1T = torch.randint(model.config.vocab_size, (1, model.config.block_size))

    def ours(n: int) -> int:
        return len(list(generate(model, PROMPT, n, **WARM)))

    def batch(n: int) -> int:
        return len(list(generate_batch(model, [PROMPT] * BATCH, n, **WARM)))

    def transformers(n: int) -> int:
        ids = twin.generate(prompt_1T, max_new_tokens=n, do_sample=True, top_k=0, **WARM)
        return ids.shape[1] - len(PROMPT)

    @torch.inference_mode()
    def no_cache(n: int) -> int:
        ends = range(len(PROMPT), len(PROMPT) + n, EVERY)
        for end in ends:
            next_token(model(whole_1T[:, :end])[0, -1], PROMPT, DecodingConfig(**WARM))
        return len(ends)

    return {"generate": ours, "batch of 8": batch, "transformers": transformers,
            "no cache": no_cache}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    block_size = len(PROMPT) + options.new_tokens
    for size, (n_layer, n_head, n_embd) in SHAPES.items():
        for arch in ("gpt2", "modern"):
            torch.manual_seed(0)
            shape = {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, "vocab_size": 360}
            model = GPT(GPTConfig(arch=arch, block_size=block_size, **shape)).eval()
            compare(f"{arch}, {size}", model, options)


def compare(name: str, model: GPT, options: argparse.Namespace) -> None:
    functions = writers(model)
    walls, cpus = ({writer: [] for writer in functions} for _ in range(2))
    for write in functions.values():
        write(EVERY)  # warms up
    started, started_cpu = time.perf_counter(), time.process_time()
    for _ in range(options.rounds):
        for writer, write in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            tokens = write(options.new_tokens)
            walls[writer].append((time.perf_counter() - wall) / tokens)
            cpus[writer].append((time.process_time() - cpu) / tokens)
    share = (time.process_time() - started_cpu) / (time.perf_counter() - started)
    print(f"{name}: {model.n_parameters:,} parameters; share of a core {share:.0%}")
    for writer in functions:
        wall, cpu = (
            [b / a for a, b in zip(times["generate"], times[writer], strict=True)]
            for times in (walls, cpus)
        )
        print(
            f"  {writer:<13}{1 / statistics.median(walls[writer]):>8,.0f} tokens/s   generate is "
            f"{statistics.median(wall):5.2f} x as fast ({min(wall):.2f} to {max(wall):.2f}); "
            f"by CPU time {statistics.median(cpu):5.2f} ({min(cpu):.2f} to {max(cpu):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Training runs that are done once and kept: what sweep.py and ablation.py share.

A run is its settings and its seed. Its result goes into a JSON file in benchmarks/results/, so the
seeds can be spread over calls and processes, and a call that was cut off goes on where it was.
"""

import itertools
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config
from wikigpt.files import read_json, write_json
from wikigpt.training import events, train


def config_of(settings: dict, name: str, seed: int, runs: str) -> Config:
    """Evaluated half-way and at the end."""
    return load_config(
        runs_dir=f"runs/{runs}", name=re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{name}-{seed}"), seed=seed,
        eval_interval=-(-settings["max_steps"] // 2), **settings,
    )  # fmt: skip


class KeptRuns:
    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict]:
        # Read each time: other processes add to it.
        return read_json(self.path) if self.path.is_file() else []

    def of(self, settings: dict) -> list[dict]:
        return [row for row in self.rows() if row["settings"] == settings]

    def scores(self, settings: dict) -> list[float]:
        return [row["bits_per_byte"] for row in self.of(settings)]

    def make(self, settings: dict, name: str, seed: int) -> None:
        """Train, unless it is there; the result is that of the last step, not of the best."""
        if any(row["seed"] == seed for row in self.of(settings)):
            return
        result = {"settings": settings, "seed": seed, "threads": torch.get_num_threads()}
        config = config_of(settings, name, seed, self.path.stem)
        for event in train(config, fresh=True, say=lambda _: None):
            if isinstance(event, events.Preflight):
                result |= {"parameters": event.parameters, "precision": event.precision}
            elif isinstance(event, events.Evaluation):
                result["bits_per_byte"] = event.bits_per_byte
                result["nats_per_char"] = event.nats_per_char
            elif isinstance(event, events.Stopped):
                raise SystemExit(event.why)
            elif isinstance(event, events.Finished):
                result["seconds"] = event.seconds
        write_json(self.path, [*self.rows(), result])
        print(f"{name}, seed {seed}: {result['bits_per_byte']:.3f} bits/byte", flush=True)


def mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def seconds_per_step(variants: dict[str, dict], steps: int = 5) -> dict[str, float]:
    """Of each variant of settings: see in_turns."""
    loops = {}
    for name, settings in variants.items():
        config = config_of(settings | {"max_steps": 10**9}, f"speed-{name}", 0, "speed")
        prepare(config, lambda _: None)
        stream = train(config, fresh=True, say=lambda _: None)
        loops[name] = filter(lambda event: isinstance(event, events.Step), stream)
    return in_turns(loops, steps)


def in_turns(loops: dict[str, Iterator], steps: int, rounds: int = 7) -> dict[str, float]:
    """Seconds of a step of each loop: medians over rounds in which all take turns."""
    seconds = {name: [] for name in loops}
    began, cpu = time.perf_counter(), time.process_time()
    for turn, (name, loop) in itertools.product(range(rounds + 2), loops.items()):
        start = time.perf_counter()
        for _ in range(steps):
            next(loop)
        if turn > 1:  # the first two rounds warm up, and compile
            seconds[name].append((time.perf_counter() - start) / steps)
    share = (time.process_time() - cpu) / (time.perf_counter() - began) / torch.get_num_threads()
    print(f"{torch.get_num_threads()} threads; this process got {share:.0%} of them")
    return {name: statistics.median(its) for name, its in seconds.items()}

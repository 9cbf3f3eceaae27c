"""Seconds of training until the same validation loss: two classic recipes (classics.py), and ours.

    python benchmarks/time_to_quality.py --speed                  # seconds of a step, in turns
    python benchmarks/time_to_quality.py --seeds 1 2 3            # train what is not there yet
    python benchmarks/time_to_quality.py --only nanogpt --rate 6e-3 --minutes 5       # a sweep
    python benchmarks/time_to_quality.py --table                  # what is there so far

All learn from the same articles, with a context of 256, and are measured by the same evaluation on
the whole validation split; the classics and `characters` see characters, `pieces` sees BPE of
2,048, which is what bits per byte are for. nanoGPT's recipe and ours have as many parameters within
1 %, the lecture's 10 % more, by its output layer.

A loss at a step is the same on any machine, seconds are not. So the seconds of a step are measured
in turns, in one process, first; then each classic is trained for as many steps as it does in its
minutes, and a point of its curve lies at step times seconds of a step. How unlike the recipes were
tuned is told in EXPERIMENTS.md, 10. Ours pay for their start
too: the checks before take-off, and compilation with an empty cache where they choose to compile.
Evaluations are left out for all.

The race is from nothing to a loss: for each classic, ours runs as many steps as it needs for the
best of that one, as a reader would who knows where to go: its rate falls to zero over the second
half of a run, so a run's length has to be planned.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean

import torch
from classics import BLOCK, LAYERS, RECIPES, WIDTH, train_classic
from kept import in_turns, mean_and_spread

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config
from wikigpt.evaluation.bits_per_byte import evaluate
from wikigpt.files import read_json, write_json
from wikigpt.training import events, train

RESULTS = Path(__file__).parent / "results" / "time_to_quality.json"
SPEED = RESULTS.with_stem("time_to_quality_speed")
MUON = {
    "arch": "modern", "activation": "silu", "n_layer": LAYERS, "n_head": 2, "n_embd": WIDTH,
    "block_size": BLOCK, "optimizer": "muon", "schedule": "wsd", "decay_fraction": 0.5,
    "micro_batch_size": 16, "warmup_steps": 20, "final_learning_rate_fraction": 0.0,
    "weight_decay": 0.0, "beta2": 0.95,
}  # fmt: skip
OURS = {
    "pieces": MUON | {
        "tokenizer.kind": "bpe", "tokenizer.vocab_size": 2048, "intermediate_size": 96,
        "learning_rate": 0.02, "embedding_learning_rate": 0.1, "vector_learning_rate": 0.03,
    },
    "characters": MUON | {
        "intermediate_size": 384, "learning_rate": 0.01, "embedding_learning_rate": 0.01,
        "vector_learning_rate": 0.01,
    },
}  # fmt: skip
EVALUATIONS = 15

# Steps that ours plan, to come as low as a classic does at its best.
PLANS = {
    "pieces": {"lecture": 40, "nanogpt": 600},
    "characters": {"lecture": 60, "nanogpt": 1800},
}
# The lecture's own; nanoGPT's between two that were tried, 3e-3 and 6e-3 (its own is 1e-3).
RATES = {"lecture": 3e-4, "nanogpt": 4e-3}


def config_of(ours: str, steps: int, seed: int, evaluations: int = EVALUATIONS) -> Config:
    return load_config(
        name=f"{ours}-{steps}-{seed}", runs_dir="runs/time_to_quality", device="cpu", seed=seed,
        max_steps=steps, eval_interval=-(-steps // evaluations), **OURS[ours],
    )  # fmt: skip


def classic_loop(name: str, rate: float, steps: int, seed: int) -> Iterator[torch.nn.Module]:
    """Both classics read characters, by the tokenizer and in the split of ours."""
    data = prepare(config_of("characters", 1, 1), say=lambda _: None)
    tokens = torch.from_numpy(data.train.tokens(0, 10**9))
    return train_classic(RECIPES[name], rate, tokens, data.tokenizer.vocab_size, steps, seed)


def measure_speed() -> dict[str, dict[str, float]]:
    """Seconds of a step, in turns, and what comes before the first."""
    loops: dict[str, Iterator] = {}
    starts = dict.fromkeys(RECIPES, 0.0)
    for name, recipe in RECIPES.items():
        loops[name] = classic_loop(name, recipe.rate, 10**9, 1)
    for ours, classic in itertools.product(OURS, RECIPES):
        config = config_of(ours, PLANS[ours][classic], 1, evaluations=1)
        prepare(config, say=lambda _: None)
        name = f"{ours} for {classic}"
        # A process of its own, or compiling would find what it needs in memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            starts[name] = pool.submit(seconds_to_first_step, config).result()
        loops[name] = steps_of(config)
    steps = in_turns(loops, steps=2)
    return {name: {"step": steps[name], "start": starts[name]} for name in loops}


def seconds_to_first_step(config: Config) -> float:
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # a compilation is a cold one
        began = time.perf_counter()
        stream = steps_of(config)
        first = next(stream)
        seconds = time.perf_counter() - began - first.seconds
        stream.close()
        return seconds


def steps_of(config: Config) -> Iterator[events.Step]:
    for event in train(config, fresh=True, say=lambda _: None):
        if isinstance(event, events.Preflight):
            print(
                f"{config.name}: {event.parameters:,} parameters, {event.precision}, compiled: "
                f"{event.compiled} ({event.why_compiled})", flush=True,
            )  # fmt: skip
        elif isinstance(event, events.Step):
            yield event


def curve_of_classic(name: str, rate: float, steps: int, seed: int) -> list[list[float]]:
    validation = prepare(config_of("characters", 1, 1), say=lambda _: None).validation
    curve = []
    for step, model in enumerate(classic_loop(name, rate, steps, seed), start=1):
        if step % -(-steps // EVALUATIONS) == 0 or step == steps:
            loss = evaluate(model.eval(), validation)
            model.train()
            curve.append([step, loss.bits_per_byte, loss.nats_per_char])
            print(f"{name} {rate:g}, seed {seed}: {step:>5} {loss.bits_per_byte:.3f}", flush=True)
    return curve


def curve_of_ours(name: str, steps: int, seed: int) -> list[list[float]]:
    return [
        [event.step, event.bits_per_byte, event.nats_per_char]
        for event in train(config_of(name, steps, seed), fresh=True, say=lambda _: None)
        if isinstance(event, events.Evaluation)
    ]


def rows() -> list[dict]:
    return read_json(RESULTS) if RESULTS.is_file() else []


def curves(**key) -> dict[int, list[list[float]]]:
    """The curves that are there of a recipe, by their seeds."""
    return {row["seed"]: row["curve"] for row in rows() if row.items() >= key.items()}


def keep(curve: list[list[float]], **key) -> None:
    # Read again: other processes add to it.
    write_json(RESULTS, [*rows(), key | {"curve": curve}])


def train_missing(options: argparse.Namespace, speed: dict[str, dict[str, float]]) -> None:
    for seed, name in itertools.product(options.seeds, options.only):
        key = {"recipe": name, "rate": options.rate or RATES[name], "minutes": options.minutes}
        if seed not in curves(**key):
            steps = round(60 * options.minutes / speed[name]["step"])
            keep(curve_of_classic(name, key["rate"], steps, seed), **key, seed=seed)
        for ours in OURS if not options.rate else []:
            key = {"recipe": ours, "settings": OURS[ours], "steps": PLANS[ours][name]}
            if seed not in curves(**key):
                keep(curve_of_ours(ours, PLANS[ours][name], seed), **key, seed=seed)


def table(minutes: float, speed: dict[str, dict[str, float]]) -> str:
    """At the mean best loss of each classic: its seconds, and those of each seed of ours."""
    lines = []
    for name in RECIPES:
        key = {"recipe": name, "minutes": minutes}
        for rate in sorted({row["rate"] for row in rows() if row.items() >= key.items()}):
            best = [min(curve, key=bits_of) for curve in curves(rate=rate, **key).values()]
            bits, target = [point[1] for point in best], fmean(point[1] for point in best)
            seconds = speed[name]["step"] * fmean(point[0] for point in best)
            lines.append(
                f"{name}, rate {rate:g}: {mean_and_spread(bits)} bits/byte, "
                f"{fmean(point[2] for point in best):.3f} nats/char, in {seconds:.0f} s "
                f"({len(best)} seeds)"
            )
            for ours in OURS:
                steps, pace = PLANS[ours][name], speed[f"{ours} for {name}"]
                for seed, curve in curves(recipe=ours, settings=OURS[ours], steps=steps).items():
                    lowest = min(curve, key=bits_of)
                    there = [point[0] for point in curve if point[1] <= target]
                    taken = pace["start"] + pace["step"] * (there or [lowest[0]])[0]
                    lines.append(
                        f"    {ours}, seed {seed}: in {taken:.1f} s, {seconds / taken:.1f} times "
                        f"as fast; {lowest[1]:.3f} after {steps} steps"
                        if there
                        else f"    {ours}, seed {seed}: came to {lowest[1]:.3f} in {taken:.1f} s"
                    )
    return "\n".join(lines)


def bits_of(point: list[float]) -> float:
    return point[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=15, help="training time of each classic")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rate", type=float, help="of the classics alone, in place of RATES")
    parser.add_argument("--speed", action="store_true", help="measure the seconds of a step")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    if options.speed or not SPEED.is_file():
        write_json(SPEED, measure_speed())
    speed = read_json(SPEED)
    if not (options.speed or options.table):
        train_missing(options, speed)
    print(table(options.minutes, speed))


if __name__ == "__main__":
    main()

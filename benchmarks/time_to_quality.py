"""Seconds of training until the same validation loss: two classic recipes (classics.py), and ours.

    python benchmarks/time_to_quality.py --machine "my laptop" --speed    # seconds of a step
    python benchmarks/time_to_quality.py --machine "my laptop" --seeds 1 2 3      # what is missing
    python benchmarks/time_to_quality.py --machine "my laptop" --only nanogpt --rate 6e-3
    python benchmarks/time_to_quality.py                                  # tables of all machines

All learn from the same articles, with a context of 256, and are measured by the same evaluation on
the whole validation split; the classics and `characters` see characters, the others BPE of 2,048,
which is what bits per byte are for. nanoGPT's recipe and ours have as many parameters within 1 %;
the lecture's has 10 % more, by its output layer, and so has `pieces-wider`.

A loss at a step is the same on any machine, seconds are not. So the seconds of a step are measured
on each machine, in turns, in one process, first; then each classic is trained for as many steps as
it does there in its minutes, and a point of its curve lies at step times seconds of a step. How
they were tuned: classic_trials.py. Ours pay for their start too: the checks before
take-off, and compilation with an empty cache where they choose to compile. Evaluations are left out
for all.

The race is from nothing to a loss. Our rate falls to zero over the second half of a run, so that
its length has to be planned, as a reader would who knows where to go: ours is trained in several
lengths, and against each classic goes the shortest of which all seeds come as low as that one.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from classics import BLOCK, LAYERS, RECIPES, WIDTH, Recipe, train_classic
from kept import in_turns, mean_and_spread

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config
from wikigpt.evaluation.bits_per_byte import evaluate
from wikigpt.files import read_json, write_json
from wikigpt.training import events, train

RESULTS = Path(__file__).parent / "results" / "time_to_quality.json"
SPEED = RESULTS.with_stem("time_to_quality_speed")  # by machine
MUON = {
    "arch": "modern", "activation": "silu", "n_layer": LAYERS, "n_head": 2, "n_embd": WIDTH,
    "block_size": BLOCK, "optimizer": "muon", "schedule": "wsd", "decay_fraction": 0.5,
    "micro_batch_size": 16, "warmup_steps": 20, "final_learning_rate_fraction": 0.0,
    "weight_decay": 0.0, "beta2": 0.95,
}  # fmt: skip
PIECES = MUON | {
    "tokenizer.kind": "bpe", "tokenizer.vocab_size": 2048, "intermediate_size": 96,
    "learning_rate": 0.02, "embedding_learning_rate": 0.1, "vector_learning_rate": 0.03,
}  # fmt: skip
OURS = {
    "pieces": PIECES,
    # For machines that a small batch does not slow down: all but those with units for bf16.
    "pieces-batch-8": PIECES | {"micro_batch_size": 8},
    "pieces-wider": PIECES | {"intermediate_size": 160},
    "characters": MUON | {
        "intermediate_size": 384, "learning_rate": 0.01, "embedding_learning_rate": 0.01,
        "vector_learning_rate": 0.01,
    },
}  # fmt: skip
TUTORIAL = 1.42
EVALUATIONS = 15
MINUTES = 15

# In steps.
LENGTHS = {
    "pieces": [40, 200, 450, 600], "pieces-batch-8": [60, 120], "pieces-wider": [40, 100],
    "characters": [60, 1800],
}  # fmt: skip
# The best of classic_trials.py; their own are in classics.py.
RATES = {"lecture": 1.4e-3, "nanogpt": 4e-3}


def config_of(ours: str, steps: int, seed: int, evaluations: int = EVALUATIONS) -> Config:
    return load_config(
        name=f"{ours}-{steps}-{seed}", runs_dir="runs/time_to_quality", device="cpu", seed=seed,
        max_steps=steps, eval_interval=-(-steps // evaluations), **OURS[ours],
    )  # fmt: skip


def classic_loop(recipe: Recipe, steps: int, seed: int) -> Iterator[torch.nn.Module]:
    """Both classics read characters, by the tokenizer and in the split of ours."""
    data = prepare(config_of("characters", 1, 1), say=lambda _: None)
    tokens = torch.from_numpy(data.train.tokens(0, 10**9))
    return train_classic(recipe, tokens, data.tokenizer.vocab_size, steps, seed)


def measure_speed() -> dict[str, dict[str, float]]:
    """Seconds of a step, in turns, and what comes before the first."""
    loops: dict[str, Iterator] = {}
    starts = dict.fromkeys(RECIPES, 0.0)
    for name, recipe in RECIPES.items():
        loops[name] = classic_loop(recipe, 10**9, 1)
    for ours, steps in ((ours, steps) for ours, its in LENGTHS.items() for steps in its):
        config = config_of(ours, steps, 1, evaluations=1)
        prepare(config, say=lambda _: None)
        name = f"{ours} {steps}"
        # A process of its own, or compiling would find what it needs in memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            starts[name], compiled = pool.submit(start_of, config).result()
        # Its own choice, which another look at the machine might not make again.
        loops[name] = steps_of(replace(config, training=replace(config.training, compile=compiled)))
    steps = in_turns(loops, steps=2)
    return {name: {"step": steps[name], "start": starts[name]} for name in loops}


def start_of(config: Config) -> tuple[float, bool]:
    """Seconds before the first step, and whether the model was compiled in them."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # a compilation is a cold one
        began = time.perf_counter()
        stream = train(config, fresh=True, say=lambda _: None)
        for event in stream:
            if isinstance(event, events.Preflight):
                compiled = event.compiled
                print(
                    f"{config.name}: {event.parameters:,} parameters, {event.precision}, "
                    f"compiled: {compiled} ({event.why_compiled})", flush=True,
                )  # fmt: skip
            elif isinstance(event, events.Step):
                seconds = time.perf_counter() - began - event.seconds
                stream.close()
                return seconds, compiled
    raise AssertionError("a run without a step")


def steps_of(config: Config) -> Iterator[events.Step]:
    stream = train(config, fresh=True, say=lambda _: None)
    return (event for event in stream if isinstance(event, events.Step))


def curve_of_classic(recipe: Recipe, steps: int, seed: int) -> list[list[float]]:
    validation = prepare(config_of("characters", 1, 1), say=lambda _: None).validation
    curve = []
    for step, model in enumerate(classic_loop(recipe, steps, seed), start=1):
        if step % -(-steps // EVALUATIONS) == 0 or step == steps:
            loss = evaluate(model.eval(), validation)
            model.train()
            curve.append([step, loss.bits_per_byte, loss.nats_per_char])
            print(f"seed {seed}, step {step:>5}: {loss.bits_per_byte:.3f}", flush=True)
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
        if name in OURS:
            for steps in LENGTHS[name]:
                key = {"recipe": name, "settings": OURS[name], "steps": steps}
                if seed not in curves(**key):
                    keep(curve_of_ours(name, steps, seed), **key, seed=seed)
        else:
            key = {"recipe": name, "rate": options.rate or RATES[name]}
            key |= {"minutes": options.minutes, "machine": options.machine}
            if seed not in curves(**key):
                steps = round(60 * options.minutes / speed[name]["step"])
                recipe = replace(RECIPES[name], rate=key["rate"])
                print(f"{name}, rate {recipe.rate:g}: {steps:,} steps", flush=True)
                keep(curve_of_classic(recipe, steps, seed), **key, seed=seed)


def table(machine: str, speed: dict[str, dict[str, float]]) -> str:
    """At the mean best loss of each classic: its seconds, and those of each seed of ours.

    Of a classic that ran several races, ours goes against the one that came lowest.
    """
    lines = [machine]
    for name in RECIPES:
        its = {(row["minutes"], row["rate"]) for row in rows()
               if row["recipe"] == name and row["machine"] == machine}  # fmt: skip
        raced = []
        for minutes, rate in sorted(its):
            key = {"recipe": name, "rate": rate, "minutes": minutes, "machine": machine}
            best = [min(curve, key=bits_of) for curve in curves(**key).values()]
            bits = [point[1] for point in best]
            seconds = speed[name]["step"] * fmean(point[0] for point in best)
            lines.append(
                f"  {name}, rate {rate:g}: {mean_and_spread(bits)} bits/byte, "
                f"{fmean(point[2] for point in best):.3f} nats/char, in {seconds:.0f} s "
                f"({len(best)} seeds)"
            )
            raced.append((fmean(bits), seconds))
        if raced:
            lines.extend(against(*min(raced), speed))
    _, bits, nats = rows()[0]["curve"][0]  # of one text, so always in the same ratio
    lines.append(f"  a known tutorial, 73,000 steps on another corpus: {TUTORIAL} nats/char")
    lines.extend(against(TUTORIAL * bits / nats, None, speed))
    return "\n".join(lines)


def against(
    target: float, seconds: float | None, speed: dict[str, dict[str, float]]
) -> Iterator[str]:
    """How long each of ours takes to a loss; beside a classic, which took so many seconds."""
    for ours, lengths in LENGTHS.items():
        trained = {n: curves(recipe=ours, settings=OURS[ours], steps=n) for n in lengths}
        trained = {n: its for n, its in trained.items() if its and f"{ours} {n}" in speed}
        if not trained:
            continue
        worst = {n: max(min(map(bits_of, curve)) for curve in its.values())
                 for n, its in trained.items()}  # fmt: skip
        reach = [n for n in trained if worst[n] <= target]
        steps = min(reach) if reach else max(trained)
        pace = speed[f"{ours} {steps}"]
        for seed, curve in trained[steps].items():
            there = [point[0] for point in curve if point[1] <= target]
            lowest = min(curve, key=bits_of)
            taken = pace["start"] + pace["step"] * (there or [lowest[0]])[0]
            said = ", not there" if not there else ""
            if there and seconds:
                said = f", {seconds / taken:.1f} times as fast"
            yield (
                f"      {ours}, {steps} steps, seed {seed}: {taken:.1f} s{said}; "
                f"{lowest[1]:.3f} at its best"
            )


def bits_of(point: list[float]) -> float:
    return point[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", help="what to call this one; without it, only tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each classic")
    everybody = [*RECIPES, *OURS]
    parser.add_argument("--only", nargs="+", choices=everybody, default=everybody)
    parser.add_argument("--rate", type=float, help="of the classics alone, in place of RATES")
    parser.add_argument("--speed", action="store_true", help="measure the seconds of a step")
    options = parser.parse_args()
    speeds = read_json(SPEED) if SPEED.is_file() else {}
    if options.machine:
        if options.speed or options.machine not in speeds:
            write_json(SPEED, speeds := speeds | {options.machine: measure_speed()})
        if not options.speed:
            train_missing(options, speeds[options.machine])
    print("\n".join(table(machine, speed) for machine, speed in speeds.items()))


if __name__ == "__main__":
    main()

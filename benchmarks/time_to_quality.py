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
minutes, and a point of its curve lies at step times seconds of a step. Ours pay for their start
too: the checks before take-off, and compilation with an empty cache where they choose to compile.
Evaluations are left out for all.

The race is from nothing to a loss: for each classic, ours runs as many steps as it needs for the
best of that one, as a reader would who knows where to go: its rate falls to zero over the second
half of a run, so a run's length has to be planned.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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
PLANS = {"lecture": 60, "nanogpt": 800}
# The lecture's own; nanoGPT's tuned (its own is 1e-3).
RATES = {"lecture": 3e-4, "nanogpt": 4e-3}


def config_of(ours: str, steps: int, seed: int) -> Config:
    return load_config(
        name=f"{ours}-{steps}-{seed}", runs_dir="runs/time_to_quality", device="cpu", seed=seed,
        max_steps=steps, eval_interval=-(-steps // EVALUATIONS), **OURS[ours],
    )  # fmt: skip


def classic_loop(name: str, rate: float, steps: int, seed: int) -> Iterator[torch.nn.Module]:
    """Both classics read characters, by the tokenizer and in the split of ours."""
    data = prepare(config_of("characters", 1, 1), say=lambda _: None)
    tokens = torch.from_numpy(data.train.tokens(0, 10**9))
    return train_classic(RECIPES[name], rate, tokens, data.tokenizer.vocab_size, steps, seed)


def measure_speed() -> dict[str, dict[str, float]]:
    """Seconds of a step, in turns, and what comes before the first."""
    loops: dict[str, Iterator] = {}
    for name, recipe in RECIPES.items():
        loops[name] = classic_loop(name, recipe.rate, 10**9, 1)
    for ours, (classic, steps) in itertools.product(OURS, PLANS.items()):
        config = config_of(ours, steps, 1)
        prepare(config, say=lambda _: None)
        loops[f"{ours} for {classic}"] = steps_of(config)
    starts = {}
    for name, loop in loops.items():
        began = time.perf_counter()
        next(loop)
        starts[name] = time.perf_counter() - began
    steps = in_turns(loops, steps=2)
    # Of a start, the first step is counted among the steps.
    return {
        name: {"step": its, "start": 0.0 if name in RECIPES else max(0.0, starts[name] - its)}
        for name, its in steps.items()
    }


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
        rate, steps = options.rate or RATES[name], classic_steps(name, options.minutes, speed)
        key = {"recipe": name, "rate": rate, "steps": steps}
        if seed not in curves(**key):
            keep(curve_of_classic(name, rate, steps, seed), **key, seed=seed)
        for ours in OURS if not options.rate else []:
            key = {"recipe": ours, "settings": OURS[ours], "steps": PLANS[name]}
            if seed not in curves(**key):
                keep(curve_of_ours(ours, PLANS[name], seed), **key, seed=seed)


def classic_steps(name: str, minutes: float, speed: dict[str, dict[str, float]]) -> int:
    return round(60 * minutes / speed[name]["step"])


def table(minutes: float, speed: dict[str, dict[str, float]]) -> str:
    """At the best loss of each classic: the seconds to it, its own and ours."""
    lines = []
    for name in RECIPES:
        steps = classic_steps(name, minutes, speed)
        rates = {row["rate"] for row in rows() if row["recipe"] == name and row["steps"] == steps}
        for rate in sorted(rates):
            classic = curves(recipe=name, rate=rate, steps=steps)
            best = {seed: min(curve, key=lambda p: p[1]) for seed, curve in classic.items()}
            lines.append(
                f"{name}, rate {rate:g}: {mean_and_spread([p[1] for p in best.values()])} "
                f"bits/byte, {statistics.mean(p[2] for p in best.values()):.3f} nats/char, after "
                f"{minutes:g} minutes ({len(best)} seeds)"
            )
            for ours in OURS:
                mine = curves(recipe=ours, settings=OURS[ours], steps=PLANS[name])
                pace = speed[f"{ours} for {name}"]
                taken = {
                    seed: pace["start"] + pace["step"] * point[0]
                    for seed, curve in mine.items()
                    for point in curve[::-1]
                    if seed in best and point[1] <= best[seed][1]
                }
                seconds = [speed[name]["step"] * best[seed][0] for seed in taken]
                ratios = [a / b for a, b in zip(seconds, taken.values(), strict=True)]
                if ratios:
                    lines.append(
                        f"    {ours:<12} {mean_and_spread(list(taken.values()))} s: "
                        f"{min(ratios):.1f} to {max(ratios):.1f} times as fast"
                        + f" ({len(ratios)} of {len(mine)} seeds came there)"
                    )
                elif mine:
                    lowest = min(point[1] for curve in mine.values() for point in curve)
                    lines.append(f"    {ours:<12} came to {lowest:.3f} only")
    return "\n".join(lines)


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
        with tempfile.TemporaryDirectory() as empty:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # each compilation a cold one
            write_json(SPEED, measure_speed())
    speed = read_json(SPEED)
    if not (options.speed or options.table):
        train_missing(options, speed)
    print(table(options.minutes, speed))


if __name__ == "__main__":
    main()

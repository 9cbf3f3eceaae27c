"""How the classics of time_to_quality.py were tuned: one setting at a time, mostly the rate.

    python benchmarks/classic_trials.py nanogpt                       # train what is missing
    python benchmarks/classic_trials.py nanogpt "batch 6" "rate 0.002"
    python benchmarks/classic_trials.py                               # what is there so far

Each has as long as a third of the race, and the lecture's, which stands on a plateau for the first
half of that, two thirds (on an EPYC with AVX-512 bf16; a loss at a step is the same on any
machine). Trials of a smaller batch see as much text, in more steps.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from classics import RECIPES, Recipe, nanogpt_height, nanogpt_optimizer
from time_to_quality import curve_of_classic

from wikigpt.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "classic_trials.json"
STEPS = {"nanogpt": 3277, "lecture": 570}
SEEDS = {"nanogpt": 0, "lecture": 1}
NANOGPT, LECTURE = replace(RECIPES["nanogpt"], rate=4e-3), replace(RECIPES["lecture"], rate=1e-3)
TRIALS: dict[str, dict[str, Recipe]] = {
    "nanogpt": {
        f"rate {rate:g}": replace(NANOGPT, rate=rate)
        for rate in (1e-3, 2e-3, 2.8e-3, 4e-3, 6e-3, 12e-3)
    } | {
        "warmup 400": replace(NANOGPT, height=partial(nanogpt_height, warmup=400)),
        "beta2 0.95": replace(NANOGPT, optimizer=partial(nanogpt_optimizer, beta2=0.95)),
        "batch 6": replace(NANOGPT, batch=6),
        "batch 6, rate 0.0028": replace(NANOGPT, batch=6, rate=2.8e-3),
        "weight decay 0": replace(NANOGPT, optimizer=partial(nanogpt_optimizer, weight_decay=0.0)),
        "down to 0": replace(NANOGPT, height=partial(nanogpt_height, lowest=0.0)),
    },
    "lecture": {
        f"rate {rate:g}": replace(LECTURE, rate=rate)
        for rate in (3e-4, 5e-4, 7e-4, 1e-3, 1.4e-3, 2e-3, 3e-3, 1e-2)
    } | {
        "batch 16": replace(LECTURE, batch=16),
        "batch 16, rate 0.0005": replace(LECTURE, batch=16, rate=5e-4),
    },
}  # fmt: skip


def rows() -> list[dict]:
    return read_json(RESULTS) if RESULTS.is_file() else []


def make(name: str, trial: str) -> None:
    recipe, seed = TRIALS[name][trial], SEEDS[name]
    steps = STEPS[name] * RECIPES[name].batch // recipe.batch
    key = {"recipe": name, "trial": trial, "seed": seed, "steps": steps}
    if any(row.items() >= key.items() for row in rows()):
        return
    print(f"{name}, {trial}: {steps:,} steps of {recipe.batch}", flush=True)
    curve = curve_of_classic(recipe, steps, seed)
    write_json(RESULTS, [*rows(), key | {"curve": curve}])  # read again: other processes add to it


def table() -> str:
    """What each came to, the best first of those with as many steps."""
    lines = [
        f"{'recipe':<10}{'trial':<24}{'seed':>5}{'steps':>7}{'bits/byte':>11}{'nats/char':>11}"
    ]
    for row in sorted(rows(), key=lambda row: (row["recipe"], row["steps"], row["curve"][-1][1])):
        _, bits, nats = row["curve"][-1]
        lines.append(
            f"{row['recipe']:<10}{row['trial']:<24}{row['seed']:>5}{row['steps']:>7,}"
            f"{bits:>11.3f}{nats:>11.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", choices=TRIALS)
    parser.add_argument("trials", nargs="*", help="in place of all of them")
    options = parser.parse_args()
    if options.recipe:
        for trial in options.trials or TRIALS[options.recipe]:
            if trial not in TRIALS[options.recipe]:
                parser.error(
                    f"there is no {trial!r}; there are {', '.join(TRIALS[options.recipe])}."
                )
            make(options.recipe, trial)
    print(table())


if __name__ == "__main__":
    main()

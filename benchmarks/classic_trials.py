"""How the classics of time_to_quality.py were tuned: one setting at a time, mostly the rate.

    python benchmarks/classic_trials.py nanogpt                       # train what is missing
    python benchmarks/classic_trials.py nanogpt "batch 6" "down to 0"
    python benchmarks/classic_trials.py                               # what is there so far

One has a third of the race's quarter of an hour, as many steps as an EPYC with AVX-512 bf16 does in
it (a loss at a step is the same on any machine); the lecture's, which stands on a plateau for so
long, two thirds. A smaller batch sees as much text, in more steps. Rows of other lengths are from
before this script: rates tried on other machines, or stopped when they were far behind.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from classics import RECIPES, Recipe, nanogpt_height, nanogpt_optimizer
from time_to_quality import RATES, curve_of_classic

from wikigpt.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "classic_trials.json"
STEPS = {"nanogpt": 3277, "lecture": 570}
SEEDS = {"nanogpt": 0, "lecture": 1}
NANOGPT, LECTURE = (replace(RECIPES[name], rate=RATES[name]) for name in ("nanogpt", "lecture"))
TRIALS: dict[str, dict[str, Recipe]] = {
    "nanogpt": {
        f"rate {rate:g}": replace(NANOGPT, rate=rate)
        for rate in (2.8e-3, 4e-3, 6e-3, 12e-3)
    } | {
        "beta2 0.95": replace(NANOGPT, optimizer=partial(nanogpt_optimizer, beta2=0.95)),
        "batch 6": replace(NANOGPT, batch=6),
        "weight decay 0": replace(NANOGPT, optimizer=partial(nanogpt_optimizer, weight_decay=0.0)),
        "down to 0": replace(NANOGPT, height=partial(nanogpt_height, lowest=0.0)),
    },
    "lecture": {
        f"rate {rate:g}": replace(LECTURE, rate=rate)
        for rate in (7e-4, 1e-3, 1.4e-3, 2e-3)
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

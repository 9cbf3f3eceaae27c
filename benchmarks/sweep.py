"""The sweeps behind the recipes: which value of each setting is best, at equal tokens.

    python benchmarks/sweep.py learning_rate n_head --seeds 1 2 3   # train what is not there yet
    python benchmarks/sweep.py --table                              # what is there so far
    python benchmarks/sweep.py micro_batch_size --speed             # tokens per second, in turns

A group changes one setting of configs/one-minute.yaml, or of the file that it is named after, the
rest stays. What a run reaches does not depend on how busy the machine was; what a setting costs in
time is measured apart (`--speed`), in turns in one process. Where settings differ in speed, it
takes both to choose. Only `five minutes`, which is older than these recipes, compares at equal
time: there each shape has the steps that it can do.
"""

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path

from kept import KeptRuns, mean_and_spread, seconds_per_step

from wikigpt.config import load_config, read_yaml


def recipe(name: str) -> dict:
    """The settings of a file of configs/ that decide what is learnt."""
    written, values = read_yaml(f"configs/{name}"), asdict(load_config(f"configs/{name}"))
    tokenizer, model, training = (
        {key: values[section][key] for key in written[section] if key != "eval_interval"}
        for section in ("tokenizer", "model", "training")
    )
    return {f"tokenizer.{key}": value for key, value in tokenizer.items()} | model | training


MINUTE = recipe("one-minute.yaml")
FIVE_MINUTES = recipe("five-minutes.yaml")

# What the shapes for five minutes were tried with.
EARLIER = {
    "arch": "modern", "activation": "relu2", "n_layer": 2, "n_head": 2, "n_embd": 128,
    "block_size": 256, "intermediate_size": 384, "optimizer": "muon", "schedule": "wsd",
    "learning_rate": 0.01, "embedding_learning_rate": 0.01, "vector_learning_rate": 0.01,
    "decay_fraction": 0.5, "warmup_steps": 20, "final_learning_rate_fraction": 0.0,
    "weight_decay": 0.0, "beta2": 0.95, "micro_batch_size": 16, "max_steps": 600,
}  # fmt: skip


def in_five_minutes(n_layer: int, n_embd: int, steps: int, vocab_size: int = 0, **more) -> dict:
    """A shape with heads of 64 channels, characters or BPE, and the steps that it can do."""
    shape = {
        "n_layer": n_layer, "n_embd": n_embd, "n_head": n_embd // 64, "max_steps": steps,
        "intermediate_size": -(-n_embd * 8 // (3 * 64)) * 64, "learning_rate": 0.02,
    }  # fmt: skip
    bpe = {"tokenizer.kind": "bpe", "tokenizer.vocab_size": vocab_size} if vocab_size else {}
    return EARLIER | shape | bpe | more


# The steps are what two cores of a Xeon with AMX do in 300 s, by the speed of compiled passes.
SHAPES = {
    "bpe 2048, 3 x 192": in_five_minutes(3, 192, 1550, 2048),
    "bpe 4096, 3 x 192": in_five_minutes(3, 192, 1330, 4096),
    "bpe 4096, 4 x 256": in_five_minutes(4, 256, 815, 4096),
    "bpe 2048, 4 x 256": in_five_minutes(4, 256, 920, 2048),
    "bpe 1024, 3 x 192": in_five_minutes(3, 192, 1650, 1024),
    "characters, 2 x 128": in_five_minutes(2, 128, 4400),
}


def one_at_a_time(base: dict, key: str, values: list) -> dict[str, dict]:
    return {f"{key}={value}": base | {key: value} for value in values}


GROUPS: dict[str, dict[str, dict]] = {
    key: one_at_a_time(MINUTE, key, values)
    for key, values in {
        "learning_rate": [0.01, 0.02, 0.04],
        "embedding_learning_rate": [0.01, 0.03, 0.1, 0.3],
        "vector_learning_rate": [0.01, 0.03, 0.1],
        "decay_fraction": [0.25, 0.5, 1.0],
        "n_head": [1, 2, 4],
        "activation": ["relu2"],  # the recipe has SiLU, by default
        "weight_decay": [0.0, 0.1],
        "beta2": [0.95, 0.99],
    }.items()
} | {
    "micro_batch_size": {
        f"micro_batch_size={size}": MINUTE | {"micro_batch_size": size, "max_steps": 6400 // size}
        for size in (8, 16, 32)
    },
    "five-minutes.yaml": {
        "the recipe": FIVE_MINUTES,
        "embedding_learning_rate=0.03": FIVE_MINUTES | {"embedding_learning_rate": 0.03},
        "weight_decay=0.3": FIVE_MINUTES | {"weight_decay": 0.3},
        "micro_batch_size=8": FIVE_MINUTES | {"micro_batch_size": 8, "max_steps": 3400},
    },
    "five minutes": SHAPES,
    "five minutes, rate": one_at_a_time(
        SHAPES["bpe 2048, 3 x 192"], "learning_rate", [0.01, 0.02, 0.005]
    ),
}  # fmt: skip


def runs_of(group: str) -> KeptRuns:
    """Where its runs are kept. Notebook 7 draws what sweep.json has of several seeds."""
    name = "sweep_five_minutes" if group == "five-minutes.yaml" else "sweep"
    return KeptRuns(Path(__file__).parent / "results" / f"{name}.json")


def table() -> str:
    lines = [
        f"{'group':<25}{'variant':<32}{'steps':>6}{'parameters':>12}{'bits/byte':>16}{'seeds':>7}"
    ]
    for group, variants in GROUPS.items():
        runs = runs_of(group)
        for name, settings in variants.items():
            if its := runs.of(settings):
                score = mean_and_spread(runs.scores(settings))
                lines.append(
                    f"{group:<25}{name:<32}{settings['max_steps']:>6}"
                    f"{its[0]['parameters']:>12,}{score:>16}{len(its):>7}"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP",
                        help=", ".join(GROUPS))  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--speed", action="store_true", help="measure tokens per second instead")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    if options.speed:
        for group in options.groups:
            for name, seconds in seconds_per_step(GROUPS[group]).items():
                its = GROUPS[group][name]
                speed = its["micro_batch_size"] * its["block_size"] / seconds
                print(f"{name:<32}{speed:>10,.0f} tokens/s")
        return
    if not options.table:
        for seed, group in itertools.product(options.seeds, options.groups):
            for name, settings in GROUPS[group].items():
                runs_of(group).make(settings, f"{group}-{name}", seed)
    print(table())


if __name__ == "__main__":
    main()

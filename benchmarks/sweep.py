"""The sweeps behind the recipes: which value of each setting is best, at equal steps.

    python benchmarks/sweep.py matrices --seeds 1 2 3      # train what is not there yet
    python benchmarks/sweep.py --table                     # what is there so far
    python benchmarks/sweep.py shapes --speed              # tokens per second of each, in turns

A group changes one setting of a base recipe, the rest stays. All runs of a group see the same
tokens in the same order, so what they reach does not depend on how busy the machine was; what a
setting costs in time is measured apart (`--speed`), in turns in one process. Where settings differ
in speed, it takes both to choose. Finished runs are found again in benchmarks/results/sweep.json,
so the seeds can be spread over calls and processes.
"""

import argparse
import itertools
import re
import statistics
import time
from pathlib import Path

import torch

from wikigpt.blocks.prepare import prepare
from wikigpt.config import Config, load_config
from wikigpt.files import read_json, write_json
from wikigpt.training import events, train

RESULTS = Path(__file__).parent / "results" / "sweep.json"

# Characters, and as many parameters as the classic recipes.
SMALL = {
    "arch": "modern", "activation": "relu2", "n_layer": 2, "n_head": 2, "n_embd": 128,
    "block_size": 256, "intermediate_size": 384, "optimizer": "muon", "schedule": "wsd",
    "learning_rate": 0.01, "embedding_learning_rate": 0.03, "vector_learning_rate": 0.01,
    "decay_fraction": 0.5, "warmup_steps": 20, "final_learning_rate_fraction": 0.0,
    "weight_decay": 0.0, "beta2": 0.95, "micro_batch_size": 16, "max_steps": 600,
}  # fmt: skip


def one_at_a_time(base: dict, key: str, values: list) -> dict[str, dict]:
    return {f"{key}={value}": base | {key: value} for value in values}


def in_five_minutes(n_layer: int, n_embd: int, steps: int, vocab_size: int = 0, **more) -> dict:
    """A shape with heads of 64 channels, characters or BPE, and the steps that it can do."""
    shape = {
        "n_layer": n_layer, "n_embd": n_embd, "n_head": n_embd // 64, "max_steps": steps,
        "intermediate_size": -(-n_embd * 8 // (3 * 64)) * 64,
    }  # fmt: skip
    bpe = {"tokenizer.kind": "bpe", "tokenizer.vocab_size": vocab_size} if vocab_size else {}
    return SMALL | shape | bpe | more


# The steps are what two cores of a Xeon with AMX do in 300 s, by the speed of compiled passes.
FIVE = {
    "bpe 2048, 3 x 192": in_five_minutes(3, 192, 1550, 2048),
    "bpe 4096, 3 x 192": in_five_minutes(3, 192, 1330, 4096),
    "bpe 4096, 4 x 256": in_five_minutes(4, 256, 815, 4096),
    "characters, 2 x 128": in_five_minutes(2, 128, 4400),
    "bpe 2048, 4 x 256": in_five_minutes(4, 256, 920, 2048),
    "bpe 1024, 3 x 192": in_five_minutes(3, 192, 1650, 1024),
}

GROUPS: dict[str, dict[str, dict]] = {
    "matrices": one_at_a_time(SMALL, "learning_rate", [0.005, 0.01, 0.02, 0.04, 0.08]),
    "embeddings": one_at_a_time(SMALL, "embedding_learning_rate", [0.003, 0.01, 0.03, 0.1, 0.3]),
    "vectors": one_at_a_time(SMALL, "vector_learning_rate", [0.003, 0.01, 0.03]),
    "decay": one_at_a_time(SMALL, "decay_fraction", [0.3, 0.5, 0.8, 1.0]),
    "batch": {
        f"micro_batch_size={size}": SMALL | {"micro_batch_size": size, "max_steps": 9600 // size}
        for size in (8, 16, 32)
    },
    "activation": one_at_a_time(SMALL, "activation", ["silu", "relu2"]),
    "heads": one_at_a_time(SMALL, "n_head", [1, 2, 4]),
    "beta2": one_at_a_time(SMALL, "beta2", [0.95, 0.99]),
    "weight decay": one_at_a_time(SMALL, "weight_decay", [0.0, 0.03, 0.1]),
    "five minutes, rate": {
        f"learning_rate={rate}": FIVE["bpe 2048, 3 x 192"] | {"learning_rate": rate}
        for rate in (0.005, 0.01, 0.02)
    },
    "five minutes": FIVE,
}


def config_of(settings: dict, name: str, seed: int) -> Config:
    steps = settings["max_steps"]
    return load_config(
        runs_dir="runs/sweep",
        name=re.sub(r"[^\w.-]+", "-", name),
        seed=seed,
        eval_interval=-(-steps // 2),
        **settings,
    )  # fmt: skip


def run(config: Config) -> dict:
    """Train, or find the finished run; the result is that of the last step, not of the best."""
    result = {"threads": torch.get_num_threads()}
    for event in train(config, fresh=True, say=lambda _: None):
        if isinstance(event, events.Preflight):
            result |= {"parameters": event.parameters, "precision": event.precision}
        elif isinstance(event, events.Evaluation):
            result |= {"bits_per_byte": event.bits_per_byte, "nats_per_char": event.nats_per_char}
        elif isinstance(event, events.Stopped):
            raise SystemExit(event.why)
        elif isinstance(event, events.Finished):
            result["seconds"] = event.seconds
    return result


def speed(group: str, steps: int, rounds: int) -> None:
    """Tokens per second of a group's variants: medians over rounds in which they take turns."""
    loops, tokens, rates = {}, {}, {}
    for name, settings in GROUPS[group].items():
        config = config_of(settings | {"max_steps": 10**9}, f"{group}-speed-{name}", 0)
        prepare(config, lambda _: None)
        loops[name] = filter(lambda e: isinstance(e, events.Step), train(config, fresh=True))
        tokens[name] = config.training.micro_batch_size * config.model.block_size
        rates[name] = []
    for turn, (name, loop) in itertools.product(range(rounds + 1), loops.items()):
        start = time.perf_counter()
        for _ in range(steps):
            next(loop)
        if turn:  # the first round warms up
            rates[name].append(steps * tokens[name] / (time.perf_counter() - start))
    first = next(iter(rates))
    for name, its in rates.items():
        ratio = statistics.median(a / b for a, b in zip(its, rates[first], strict=True))
        print(f"{name:<32}{statistics.median(its):>10,.0f} tokens/s   {ratio:.2f} x {first}")


def table(rows: list[dict]) -> str:
    lines = [
        f"{'group':<14}{'variant':<34}{'steps':>6}{'parameters':>12}{'bits/byte':>16}{'seeds':>7}"
    ]
    for group, variants in GROUPS.items():
        for name in variants:
            its = [row for row in rows if row["settings"] == variants[name]]
            if its:
                steps = variants[name]["max_steps"]
                scores = [row["bits_per_byte"] for row in its]
                spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
                lines.append(
                    f"{group:<14}{name:<34}{steps:>6}{its[0]['parameters']:>12,}"
                    f"{statistics.mean(scores):>8.3f}{spread:<8}{len(scores):>7}"
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
    for group in options.groups:
        if options.speed:
            speed(group, steps=5, rounds=7)
    if options.speed:
        return
    wanted = [] if options.table else itertools.product(options.seeds, options.groups)
    for seed, group in wanted:
        for name, settings in GROUPS[group].items():
            # One run for the same settings, whatever groups they are in.
            key = {"settings": settings, "seed": seed}
            if any(key.items() <= row.items() for row in rows_so_far()):
                continue
            outcome = run(config_of(settings, f"{group}-{name}-{seed}", seed))
            # Read again: another process may have added its runs meanwhile.
            write_json(RESULTS, [*rows_so_far(), key | outcome])
            print(f"{group} {name} seed {seed}: {outcome['bits_per_byte']:.3f} bits/byte",
                  flush=True)  # fmt: skip
    print(table(rows_so_far()))


def rows_so_far() -> list[dict]:
    return read_json(RESULTS) if RESULTS.is_file() else []


if __name__ == "__main__":
    main()

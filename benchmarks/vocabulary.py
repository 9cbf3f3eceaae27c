"""What a vocabulary buys: characters against BPE of 500, 2,000 and 8,192 tokens, in bits per byte.

    python benchmarks/vocabulary.py --seeds 1 2 3              # the vocabularies
    python benchmarks/vocabulary.py --patterns --seeds 1 2 3   # the split patterns
    python benchmarks/vocabulary.py --table                    # what is there so far

The same small GPT (2 layers, 128 wide) on the same corpus and validation split, with three budgets
that make a longer token an advantage, a disadvantage or neither:

- equal tokens: as many steps as the character model;
- equal text: as many characters seen as the character model;
- equal time: as many steps as the character model's time allows, by the ratio of the step times
  measured in turns in this process (in fp32), so that a noisy machine does not decide.

A budget of few steps is a run of its own with a schedule of its own: reading a longer run's curve
half-way would judge it by a learning rate that has not come down yet. Finished runs are found
again, so the seeds can be spread over calls. Results go into benchmarks/results/.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import torch

from wikigpt.blocks.prepare import Prepared, prepare
from wikigpt.config import Config, load_config, with_vocabulary
from wikigpt.files import read_json, write_json
from wikigpt.model import GPT
from wikigpt.training import events, train

RESULTS = Path(__file__).parent / "results"
VOCABULARIES = {"char": {"kind": "char"}} | {
    f"bpe-{size}": {"kind": "bpe", "vocab_size": size, "pattern": "french"}
    for size in (500, 2000, 8192)
}
STEPS = 1250  # of the character model
BUDGETS = ("equal text", "equal time", "equal tokens")
PATTERNS = {
    f"bpe-2000-{pattern}": {"kind": "bpe", "vocab_size": 2000, "pattern": pattern}
    for pattern in ("gpt2", "gpt4", "french")
}


def config_of(tokenizer: dict, name: str, steps: int, seed: int) -> Config:
    overrides = {f"tokenizer.{key}": value for key, value in tokenizer.items()}
    return load_config(
        "configs/char-gpt.yaml", runs_dir="runs/vocabulary", name=name, seed=seed, max_steps=steps,
        eval_interval=-(-steps // 4), **overrides,
    )  # fmt: skip


def step_times(configs: dict[str, Config], data: dict[str, Prepared], rounds: int) -> dict:
    """Seconds of a step relative to the first model's: medians over rounds, taking turns."""
    step = {name: stepper(config, data[name]) for name, config in configs.items()}
    seconds = {name: [] for name in configs}
    for _ in range(rounds + 1):
        for name in configs:
            start = time.process_time()
            step[name]()
            seconds[name].append(time.process_time() - start)
    first = next(iter(configs))
    return {
        name: statistics.median(
            mine / base for mine, base in zip(seconds[name][1:], seconds[first][1:], strict=True)
        )
        for name in configs
    }


def stepper(config: Config, data: Prepared):
    model = GPT(with_vocabulary(config.model, data.tokenizer.vocab_size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids_BT, targets_BT = data.train.batch(range(config.training.micro_batch_size))

    def step() -> None:
        for _ in range(3):
            model(ids_BT, targets_BT)[1].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def plan(tokenizers: dict[str, dict], steps: int, rounds: int) -> dict[str, dict]:
    """What each tokenizer is like, and how many steps each budget gives it."""
    configs = {name: config_of(t, name, steps, 0) for name, t in tokenizers.items()}
    data = {name: prepare(config) for name, config in configs.items()}
    times = step_times(configs, data, rounds)
    first = next(iter(tokenizers))

    def characters_per_token(name: str) -> float:
        counts = data[name].train.counts
        return counts.characters / counts.tokens

    about = {}
    for name, config in configs.items():
        longer = characters_per_token(name) / characters_per_token(first)
        vocab_size = data[name].tokenizer.vocab_size
        model = GPT(with_vocabulary(config.model, vocab_size))
        counts = data[name].validation.counts
        about[name] = {
            "vocab_size": vocab_size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "bytes_per_token": counts.bytes / counts.tokens,
            "characters_per_token": characters_per_token(name),
            "step_time": times[name],
            "steps": {
                "equal tokens": steps,
                "equal text": round(steps / longer),
                "equal time": near(steps, round(steps / times[name])),
            },
        }
    return about


def near(steps: int, others: int) -> int:
    """The same run where the difference is smaller than what can be measured."""
    return steps if abs(others - steps) <= 0.03 * steps else others


def run(config: Config) -> dict[str, float]:
    """Train, or find the finished run; the result is that of the last step, not of the best."""
    for event in train(config):
        if isinstance(event, events.Finished):
            seconds = event.seconds
    lines = (config.run_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    last = [row for row in rows if row["kind"] == "evaluation"][-1]
    keys = ("bits_per_byte", "nats_per_token", "nats_per_char")
    return {"seconds": seconds} | {key: last[key] for key in keys}


def table(results: dict) -> str:
    lines = [f"{'':<18}{'budget':<14}{'steps':>7}{'bits/byte':>18}{'nats/token':>12}{'seeds':>7}"]
    for name, about in results["tokenizers"].items():
        for budget, steps in about["steps"].items():
            rows = [r for r in results["runs"] if (r["tokenizer"], r["steps"]) == (name, steps)]
            if rows:
                scores = [row["bits_per_byte"] for row in rows]
                spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
                tokens = statistics.mean(row["nats_per_token"] for row in rows)
                score = f"{statistics.mean(scores):.3f}{spread}"
                lines.append(
                    f"{name:<18}{budget:<14}{steps:>7}{score:>18}{tokens:>12.3f}{len(rows):>7}"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", action="store_true", help="compare split patterns instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=15, help="of measuring the step times")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    tokenizers = PATTERNS if options.patterns else VOCABULARIES
    path = RESULTS / ("patterns.json" if options.patterns else "vocabulary.json")
    results = read_json(path) if path.is_file() else {}
    if not options.table:
        if not results:  # measured once: other step counts would be other runs
            about = plan(tokenizers, STEPS, options.rounds)
            results = {"base_steps": STEPS, "tokenizers": about, "runs": []}
            write_json(path, results)
        # The cheapest budgets of all seeds first: a table of them comes before the long runs end.
        # The patterns' tokens are too nearly equally long for the other budgets to differ.
        budgets = ["equal time"] if options.patterns else BUDGETS
        for budget, seed, name in itertools.product(budgets, options.seeds, tokenizers):
            steps = results["tokenizers"][name]["steps"][budget]
            key = {"tokenizer": name, "steps": steps, "seed": seed}
            if any(key.items() <= row.items() for row in results["runs"]):
                continue
            config = config_of(tokenizers[name], f"{name}-{steps}-steps-seed-{seed}", steps, seed)
            outcome = run(config)
            # Read again: another process may have added its seeds meanwhile.
            results = read_json(path)
            results["runs"].append(key | outcome)
            write_json(path, results)
            print(f"{config.name}: {outcome['bits_per_byte']:.3f} bits/byte", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()

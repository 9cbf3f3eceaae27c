"""Which decoding setting removes loops, at what cost: a grid of them on one trained run.

    python benchmarks/decoding.py runs/char-gpt
    python benchmarks/decoding.py runs/char-gpt --table     # what is there so far, of all runs

Each setting writes on after the beginnings of the same validation articles, from the same seeds.
What the columns mean is in evaluation/decoding_grid.py. Results go into
benchmarks/results/decoding.json under the run's name; another measurement of a run replaces it.
"""

import argparse
import time
from pathlib import Path

from wikigpt.blocks.prepare import split_texts
from wikigpt.evaluation.decoding_grid import GRID, chance_level, compare_settings, settings_table
from wikigpt.files import read_json, write_json
from wikigpt.training.run_folder import load_run

RESULTS = Path(__file__).parent / "results" / "decoding.json"


def best(record: dict) -> str:
    """The settings that are told from human text least often, from the best."""
    rows = sorted(record["settings"], key=lambda row: row["told_apart"])
    lines = [
        f"  {row['told_apart']:.2f}  {row['name']:<34}loops {row['figures']['loops'][0]:.0%}"
        for row in rows
    ]
    return "\n".join([f"{record['run']}, {record['parameters']:,} parameters:", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_folder", nargs="?", help="such as runs/char-gpt")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=200)
    parser.add_argument("--words", type=int, default=80, help="of each text are judged")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--settings", nargs="+", choices=GRID, default=list(GRID), metavar="NAME")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.is_file() else {}
    if not options.table:
        if not options.run_folder:
            parser.error("name a run folder, or --table")
        model, tokenizer, config = load_run(options.run_folder)
        asked = {key: getattr(options, key) for key in ("samples", "new_tokens", "words", "seed")}
        started = time.process_time()
        judged = compare_settings(
            model, tokenizer, split_texts(config, "validation"), split_texts(config, "train"),
            {name: GRID[name] for name in options.settings}, **asked,
        )  # fmt: skip
        print(f"{settings_table(judged)}\n{time.process_time() - started:.0f} s of CPU time\n")
        results[config.name] = {
            "run": config.name, "parameters": model.n_parameters, **asked,
            "chance_level": chance_level(options.samples),
            "settings": [row.record() for row in judged],
        }  # fmt: skip
        write_json(RESULTS, results)
    print("\n\n".join(best(record) for record in results.values()))


if __name__ == "__main__":
    main()

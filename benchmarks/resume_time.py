"""Seconds from the command that resumes a run to its first new step, at step 100 and at 10,000.

    python benchmarks/resume_time.py

A new process is started each time, as after a crash, so the imports are in it. The model is as
small as can be: what is measured is how a run finds its place, which must not depend on the step.
Some minutes, most of them to get to step 10,000.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wikigpt.config import load_config, save_config
from wikigpt.training import events, train
from wikigpt.training.logging import read_metrics

TINY = {
    "n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 32, "micro_batch_size": 4,
    "max_new_tokens": 8, "device": "cpu", "precision": "fp32",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'engine':<10}{'blocks':<12}" + "".join(f"{f'step {n:,}':>24}" for n in options.steps))
    for engine in ("own", "trainer"):
        for blocks in ("shards", "streaming"):
            with tempfile.TemporaryDirectory() as folder:
                cells = measure(engine, blocks, options.steps, options.repeats, Path(folder))
            print(f"{engine:<10}{blocks:<12}" + "".join(f"{cell:>24}" for cell in cells))


def measure(engine: str, blocks: str, at: list[int], repeats: int, folder: Path) -> list[str]:
    """Train on to each step in turn, and resume copies of the run there."""
    config = load_config(
        "configs/char-gpt.yaml", name="resumed", runs_dir=str(folder / "runs"), engine=engine,
        blocks=blocks, max_steps=max(at) + 100, eval_interval=10**9, **TINY,
    )  # fmt: skip
    save_config(config, folder / "config.yaml")
    cells = []
    for step in sorted(at):
        for event in train(config, say=lambda _: None):
            if isinstance(event, events.Step) and event.step == step:
                break
        seconds = [resume(config, folder, step) for _ in range(repeats)]
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        cells.append(f"{statistics.median(seconds):.2f} s {spread}")
    return cells


def resume(config, folder: Path, step: int) -> float:
    """The seconds until a new process has logged the step after `step`."""
    runs = folder / "copy"
    shutil.rmtree(runs, ignore_errors=True)
    shutil.copytree(config.run_path.parent, runs)
    command = [sys.executable, "-m", "wikigpt", "pretrain", str(folder / "config.yaml")]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"runs_dir={runs}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not any(record["step"] > step for record in read_metrics(runs / config.name)):
            if process.poll() is not None:
                raise SystemExit(f"The resumed run ended with status {process.returncode}.")
            time.sleep(0.02)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()

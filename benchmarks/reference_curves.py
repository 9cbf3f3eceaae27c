"""What the loss of a config should be: trains it with several seeds, writes configs/reference/.

    python benchmarks/reference_curves.py configs/char-gpt.yaml --seeds 1 2 3 \\
        --hardware "two cores of a Xeon with AMX"

`wikigpt compare RUN` holds a run against the file that comes out; evaluation/reference.py says how.
Runs lie in runs/reference/ and are found again when they are finished. A file that is there already
is added to, so that a seed more costs no more than its own run; delete it to begin anew.
"""

import argparse
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from wikigpt.config import Config, find_root, load_config, relative
from wikigpt.evaluation.reference import FOLDER, comparison, make_reference, read_references
from wikigpt.files import write_json
from wikigpt.processes import usable_cores
from wikigpt.training import events, train
from wikigpt.training.run_folder import read_curve


def run(config: Config) -> Path:
    """Train, or find the finished run; its folder."""
    for event in train(config):
        if isinstance(event, events.Evaluation):
            print(f"{config.name}  step {event.step}  {event.bits_per_byte:.3f}", flush=True)
        if isinstance(event, events.Stopped):
            raise SystemExit(f"{event.why}: the same command goes on from there.")
    return config.run_path


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{usable_cores()} CPU cores, {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="such as configs/char-gpt.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--hardware", default=hardware(), help="in words")
    options = parser.parse_args()
    name = Path(options.config).stem
    earlier = [found for found in read_references() if found.config == f"{name}.yaml"]
    folders = [
        run(
            load_config(
                options.config, seed=seed, name=f"{name}-seed-{seed}", runs_dir="runs/reference"
            )
        )
        for seed in options.seeds
    ]
    curves = [read_curve(folder) for folder in folders]
    # A version such as 2.13.0+cpu says how torch was built; the losses don't depend on it.
    version = torch.__version__.split("+")[0]
    reference = make_reference(f"{name}.yaml", options.hardware, version, curves, *earlier)
    path = find_root() / FOLDER / f"{name}.json"
    write_json(path, asdict(reference))
    print(comparison([reference], curves[0]))
    print(f"\n{relative(path)}")


if __name__ == "__main__":
    main()

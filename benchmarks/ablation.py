"""Which idea buys what: from the classic tutorial recipe to ours, one idea at a time.

    python benchmarks/ablation.py --speed              # seconds a step of each, in turns: first
    python benchmarks/ablation.py --seeds 1 2 3        # train what is not there yet
    python benchmarks/ablation.py --table              # what is there so far

Each row keeps the ideas of the rows above it, but for ReLU², which lost. Two budgets: equal tokens
(or, for the last rows with longer tokens, equal text), which asks what an idea teaches the model;
and equal seconds, by the seconds a step measured in turns, which asks what it is worth to somebody
who waits. A row that only changes the speed (bf16, compilation) is trained again for both all the
same: its sums differ. notebooks/07 draws benchmarks/results/ablation.json.
"""

import argparse
from pathlib import Path

from kept import KeptRuns, mean_and_spread, seconds_per_step

from wikigpt.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"
# The classic recipe, at its own constant rate. "Constant" is a cosine that ends where it began.
CLASSIC = {
    "arch": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 128, "block_size": 256, "dropout": 0.2,
    "optimizer": "adamw", "learning_rate": 3e-4, "warmup_steps": 0,
    "final_learning_rate_fraction": 1.0, "weight_decay": 0.01, "beta2": 0.999,
    "micro_batch_size": 64, "precision": "fp32", "compile": False,
}  # fmt: skip
MODERN = {"arch": "modern", "activation": "silu", "intermediate_size": 352}
MUON = {
    "optimizer": "muon", "learning_rate": 0.01, "weight_decay": 0.0, "beta2": 0.95,
    "embedding_learning_rate": 0.01, "vector_learning_rate": 0.01,
}  # fmt: skip
LINE = {"schedule": "wsd", "decay_fraction": 0.5, "final_learning_rate_fraction": 0.0}
LADDER = {
    "classic tutorial": {},
    "no dropout": {"dropout": 0.0},
    "batch of 16, not 64": {"micro_batch_size": 16},
    "tuned rate, warmup, cosine": {
        "learning_rate": 4e-3, "warmup_steps": 50, "final_learning_rate_fraction": 0.05,
        "weight_decay": 0.1, "beta2": 0.99,
    },
    "2 heads, not 4": {"n_head": 2},
    "RMSNorm, RoPE, QK-norm, SwiGLU": MODERN,
    "Muon": MUON,
    "falling along a line": LINE,
    "ReLU² for SiLU": {"activation": "relu2"},
    "bf16, and SiLU again": {"precision": "bf16", "activation": "silu"},  # ReLU² has lost
    "torch.compile": {"compile": True},
    "BPE of 2,048": {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 2048},
    "3 layers of 192": {"n_layer": 3, "n_embd": 192, "n_head": 3, "intermediate_size": 512},
}  # fmt: skip
TOKENS = 1_638_400
SECONDS = 30
# Bytes a token of BPE on this corpus, for equal text.
LONGER = {"BPE of 2,048": 3.0, "3 layers of 192": 3.0}


def rungs() -> dict[str, dict]:
    """Settings of each row, those of the rows above it included."""
    settings, found = dict(CLASSIC), {}
    for name, idea in LADDER.items():
        settings = settings | idea
        found[name] = settings
    return found


def steps_of(name: str, settings: dict, speed: dict[str, float]) -> dict[str, int]:
    tokens = TOKENS / LONGER.get(name, 1)
    return {
        "equal text": round(tokens / settings["micro_batch_size"] / settings["block_size"]),
        "equal seconds": round(SECONDS / speed[name]),
    }


def table(runs: KeptRuns, speed: dict[str, float]) -> str:
    lines = [f"{'':<34}{'s a step':>9}{'tokens/s':>10}{'equal text':>18}{'equal seconds':>18}"]
    for name, settings in rungs().items():
        cells = []
        for steps in steps_of(name, settings, speed).values():
            scores = runs.scores(settings | {"max_steps": steps})
            cells.append(f"{mean_and_spread(scores)} ({len(scores)})" if scores else "")
        rate = settings["micro_batch_size"] * settings["block_size"] / speed[name]
        lines.append(f"{name:<34}{speed[name]:>9.3f}{rate:>10,.0f}{cells[0]:>18}{cells[1]:>18}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--speed", action="store_true", help="measure the seconds of a step")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    runs, path = KeptRuns(RESULTS / "ablation.json"), RESULTS / "ablation_speed.json"
    if options.speed:
        variants = {name: its | {"max_steps": 1} for name, its in rungs().items()}
        write_json(path, seconds_per_step(variants, steps=2))
    speed = read_json(path)
    if not (options.table or options.speed):
        for seed in options.seeds:
            for name, settings in rungs().items():
                for budget, steps in steps_of(name, settings, speed).items():
                    runs.make(settings | {"max_steps": steps}, f"{name}, {budget}", seed)
    print(table(runs, speed))


if __name__ == "__main__":
    main()

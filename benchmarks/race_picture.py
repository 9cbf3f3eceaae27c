"""README's picture: bits per byte against seconds, of the race of time_to_quality.py.

    python benchmarks/race_picture.py

Nothing is trained: it draws what results/ keeps of one machine, every seed of every contender, ours
in the lengths that went against each classic. Seconds count from the start of the command, with
its checks; evaluations are left out, for all.
"""

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from time_to_quality import OURS, RATES, RESULTS, SPEED, bits_of, curves

from wikigpt.files import read_json

MACHINE = "EPYC with AVX-512 bf16, 2 cores"
PICTURE = RESULTS.with_suffix(".png")
# Of ours, the length that was planned against it.
AGAINST = {"lecture": ("pieces-wider", 100), "nanogpt": ("pieces", 450)}
NAMES = {
    "lecture": "a well-known lecture's recipe, rate tuned",
    "nanogpt": "nanoGPT's recipe for a CPU, rate tuned",
}


def draw(save_to: Path = PICTURE) -> None:
    speed = read_json(SPEED)[MACHINE]
    figure, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
    for colour, (name, rate) in zip(("C7", "C0"), RATES.items(), strict=True):
        classic = curves(recipe=name, rate=rate, minutes=15, machine=MACHINE).values()
        for curve in classic:
            line(ax, curve, 0.0, speed[name]["step"], color=colour, label=NAMES[name])
        best = [min(curve, key=bits_of) for curve in classic]
        level = fmean(map(bits_of, best))
        slow = fmean(point[0] for point in best) * speed[name]["step"]
        ours, steps = AGAINST[name]
        pace = speed[f"{ours} {steps}"]
        reached = []
        for curve in curves(recipe=ours, settings=OURS[ours], steps=steps).values():
            seconds = line(ax, curve, pace["start"], pace["step"], color="C3", label="ours")
            reached.append(next(s for s, p in zip(seconds, curve, strict=True) if p[1] <= level))
        fast = max(reached)
        ax.annotate("", (fast, level), (slow, level), arrowprops={"arrowstyle": "->", "lw": 1})
        ax.annotate(
            f"{slow / fast:.0f} times as fast", (fast, level),
            xytext=(30, 5), textcoords="offset points",
        )  # fmt: skip
    ax.set_xscale("log")
    ticks = [3, 10, 30, 100, 300, 900]
    ax.set_xticks(ticks, map(str, ticks))
    ax.minorticks_off()
    ax.set_ylim(top=4)
    ax.set_xlabel("seconds on two CPU cores, checks before the first step included")
    ax.set_ylabel("validation bits per byte")
    ax.grid(alpha=0.3)
    by_name = {drawn.get_label(): drawn for drawn in ax.get_lines()}  # each once
    ax.legend(by_name.values(), by_name)
    figure.savefig(save_to, dpi=110)


def line(ax: Axes, curve: list[list[float]], start: float, step: float, **style) -> list[float]:
    """Draw one run; the seconds of its points."""
    seconds = [start + step * point[0] for point in curve]
    ax.plot(seconds, list(map(bits_of, curve)), ".-", lw=1, **style)
    return seconds


if __name__ == "__main__":
    draw()
    print(f"benchmarks/results/{PICTURE.name}")

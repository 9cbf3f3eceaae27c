"""Pictures of a run, drawn from its folder, and of a corpus; no server needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.errors import UserError
from wikigpt.evaluation.baselines import Floor
from wikigpt.evaluation.syntax import Accuracy
from wikigpt.training.logging import read_metrics


def plot_run(folder: str | Path, save_to: str | Path | None = None) -> Figure:
    """Loss, learning rate, gradient norm and speed of one run against tokens seen."""
    steps, evaluations = _curves(folder)
    tokens = {record["step"]: record["tokens"] / 1e6 for record in steps}
    x = [record["tokens"] / 1e6 for record in steps]
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
    draw_bits_per_byte(axes[0, 0], folder)
    axes[0, 0].set_title(f"{Path(folder).name}: bits per byte")
    panels = [
        (axes[0, 1], "learning_rate", "learning rate", 1),
        (axes[1, 0], "grad_norm", "gradient norm, before clipping", 1),
        (axes[1, 1], "tokens_per_second", "thousand tokens per second", 1e-3),
    ]
    for ax, key, title, scale in panels:
        ax.plot(x, [record[key] * scale for record in steps], lw=0.8, color="C0")
        ax.set_title(title)
        ax.set_xlabel("million tokens seen")
        ax.grid(alpha=0.3)
    axes[1, 0].set_yscale("log")
    axes[1, 1].set_ylim(bottom=0)
    if evaluations:
        last = evaluations[-1]
        axes[0, 0].annotate(
            f"{last['bits_per_byte']:.3f}", (tokens[last["step"]], last["bits_per_byte"]),
            textcoords="offset points", xytext=(0, 10), ha="right", color="C3",
        )  # fmt: skip
    return _finish(figure, save_to)


def plot_runs(folders: Sequence[str | Path], save_to: str | Path | None = None) -> Figure:
    """Validation bits per byte of several runs, against tokens seen and against seconds.

    Raises:
        UserError: no run, or one of them has no metrics yet.
    """
    if not folders:
        raise UserError("There is no run to draw; train one first.")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for folder in folders:
        steps, evaluations = _curves(folder)
        at = {record["step"]: record for record in steps}
        y = [record["bits_per_byte"] for record in evaluations]
        for ax, key, scale in ((axes[0], "tokens", 1e-6), (axes[1], "seconds", 1)):
            x = [at[record["step"]][key] * scale for record in evaluations]
            best = f": {min(y):.3f}" if y else ""
            ax.plot(x, y, "o-", ms=4, label=Path(folder).name + best)
    axes[0].set_ylabel("validation bits per byte")
    axes[0].set_xlabel("million tokens seen")
    axes[1].set_xlabel("seconds of training")
    for ax in axes:
        ax.grid(alpha=0.3)
    axes[0].legend()
    return _finish(figure, save_to)


def plot_cleaning(report: CleaningReport, save_to: str | Path | None = None) -> Figure:
    """What each rule and each filter took away, and how long the kept articles are."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    rows = [*report.rules.items(), *report.dropped.items()]
    rows.sort(key=lambda row: row[1].bytes)
    axes[0].barh([name for name, _ in rows], [touched.bytes for _, touched in rows], color="C3")
    for y, (_, touched) in enumerate(rows):
        axes[0].annotate(
            f" {touched.documents:,} articles", (touched.bytes, y), va="center", fontsize=8
        )
    axes[0].set_title(f"removed, of {report.found.bytes:,} bytes")
    axes[0].set_xlabel("bytes")
    axes[0].set_xscale("symlog")
    axes[0].margins(x=0.3)
    for bits, articles in sorted(report.lengths.items()):
        # One bar a power of two: from 2^(bits - 1) to 2^bits - 1 characters.
        axes[1].bar(
            2.0 ** (bits - 1), articles, 2.0 ** (bits - 1), align="edge", color="C0", ec="w"
        )
    axes[1].set_xscale("log", base=2)
    axes[1].set_title(f"{report.kept.documents:,} articles kept")
    axes[1].set_xlabel("characters")
    axes[1].set_ylabel("articles")
    return _finish(figure, save_to)


def plot_floors(
    rows: Sequence[Floor], ours: Sequence[Floor], save_to: str | Path | None = None
) -> Figure:
    """Models (`ours`, in red) among what one gets without any, on one axis."""
    figure, ax = plt.subplots(
        figsize=(11, 0.32 * (len(rows) + len(ours)) + 1), layout="constrained"
    )
    bars = sorted([*rows, *ours], key=lambda row: row.bits_per_byte)
    scores = [row.bits_per_byte for row in bars]
    colours = ["C3" if row in ours else "0.7" for row in bars]
    drawn = ax.barh(range(len(bars)), scores, color=colours)
    ax.bar_label(drawn, [f" {score:.3f}" for score in scores], fontsize=9)
    ax.set_yticks(range(len(bars)), [row.name for row in bars], fontsize=9)
    ax.set_xlabel("bits per byte of the validation split")
    ax.margins(x=0.08)
    return _finish(figure, save_to)


def plot_syntax(
    columns: Mapping[str, Sequence[Accuracy]], save_to: str | Path | None = None
) -> Figure:
    """The share of pairs each model judges rightly, by phenomenon, with its 95 % interval."""
    names = [result.phenomenon for result in next(iter(columns.values()))]
    figure, ax = plt.subplots(figsize=(11, 0.32 * len(names) + 1.2), layout="constrained")
    ax.axvline(50, color="0.5", ls="--", lw=1, label="chance")
    for number, (name, results) in enumerate(columns.items()):
        y = [row + 0.3 * (number / len(columns) - 0.25) for row in range(len(results))]
        x = [100 * result.share for result in results]
        intervals = [[100 * end for end in result.interval] for result in results]
        colour = "C3" if number == 0 else "0.6"
        errors = whiskers(x, intervals)
        ax.errorbar(x, y, xerr=errors, fmt="o", ms=4, lw=1, color=colour, label=name)
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of pairs judged rightly, 95 % intervals")
    ax.grid(alpha=0.3, axis="x")
    ax.legend(loc="lower left")
    return _finish(figure, save_to)


def draw_bits_per_byte(ax: Axes, folder: str | Path) -> None:
    """The training and validation curve of one run on an axis of the caller's."""
    steps, evaluations = _curves(folder)
    tokens = {record["step"]: record["tokens"] / 1e6 for record in steps}
    x = [record["tokens"] / 1e6 for record in steps]
    y = [record["bits_per_byte"] for record in steps]
    ax.plot(x, y, lw=0.6, alpha=0.5, color="C0", label="training, each step")
    if evaluations:
        ax.plot(
            [tokens[record["step"]] for record in evaluations],
            [record["bits_per_byte"] for record in evaluations],
            "o-", ms=4, color="C3", label="validation, whole split",
        )  # fmt: skip
    ax.set_xlabel("million tokens seen")
    ax.set_ylabel("bits per byte")
    ax.grid(alpha=0.3)
    ax.legend()


def _curves(folder: str | Path) -> tuple[list[dict], list[dict]]:
    records = read_metrics(Path(folder))
    if not records:
        raise UserError(f"{folder} has no metrics yet; train first.")
    if all(record["kind"].startswith("masked") for record in records):
        raise UserError(
            f"{folder} guesses masked tokens, which has no bits per byte to draw; its curves are "
            "in TensorBoard."
        )
    return tuple([r for r in records if r["kind"] == kind] for kind in ("step", "evaluation"))


def _finish(figure: Figure, save_to: str | Path | None) -> Figure:
    if save_to is not None:
        figure.savefig(save_to, dpi=120)
    # In a notebook the returned figure is the cell's output; an open one would be shown twice.
    plt.close(figure)
    return figure


def whiskers(values: Sequence[float], ends: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Intervals as matplotlib wants them for `xerr` or `yerr`: how far below and above each value.

    Never negative: at 0 of n, the lower end of an interval may be rounded to above 0.
    """
    below = [max(0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
    above = [max(0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
    return [below, above]


def plot_board(
    board: Mapping[str, Mapping[str, Sequence[float]]], save_to: str | Path | None = None
) -> Figure:
    """Validation bits per byte of several recipes, the first on top, one panel a budget.

    Args:
        board: recipe -> budget -> one score a seed. What has not been run may be left out.
    """
    budgets = list(dict.fromkeys(budget for scores in board.values() for budget in scores))
    if not budgets:
        raise UserError("The board has no runs yet; run benchmarks/ablation.py first.")
    figure, axes = plt.subplots(
        1, len(budgets), figsize=(12, 1 + 0.38 * len(board)), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for ax, budget in zip(axes[0], budgets, strict=True):
        for y, scores in enumerate(its.get(budget, ()) for its in board.values()):
            if not scores:
                continue
            ax.plot(scores, [y] * len(scores), "o", ms=4, mew=0, color="C0", alpha=0.4)
            spread = stdev(scores) if len(scores) > 1 else 0
            ax.errorbar(fmean(scores), y, xerr=spread, fmt="|", ms=14, capsize=4, color="C3")
            ax.annotate(
                f"{fmean(scores):.3f}", (fmean(scores), y),
                textcoords="offset points", xytext=(0, 8), ha="center", fontsize=8,
            )  # fmt: skip
        ax.set_title(budget)
        ax.set_xlabel("validation bits per byte")
        ax.grid(alpha=0.3)
    axes[0, 0].set_yticks(range(len(board)), list(board))
    axes[0, 0].set_ylim(len(board) - 0.5, -0.7)
    return _finish(figure, save_to)

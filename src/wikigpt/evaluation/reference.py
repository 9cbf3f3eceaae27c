"""Is my loss normal? The same experiment with other seeds, and the band that a new run falls in.

A reference is a file configs/reference/<config>.json: bits per byte at each evaluation of a few
runs that differ in their seed only, and the settings that decide the loss.
`benchmarks/reference_curves.py` makes one.

The band is a 95 % prediction interval for one new run: mean ± t · s · √(1 + 1/n), with the standard
deviation s of n runs and Student's t for n - 1 degrees of freedom. For three runs that is 5 s on
either side, wide, because three runs know little about how far runs differ. Rejected: lowest to
highest, which every second run would leave (a fourth of four is the best or the worst of them half
of the time); the mean ± 2 s, which takes s for known and would call one normal run in five strange;
an interval of the mean, which answers where the mean is and not where a run falls.

What a band of seeds doesn't cover is another precision, machine or version of torch. They round
otherwise, which mostly is as good as another seed; where the two precisions differ, that is said.
The steps of one run are not independent: one that is unlucky early may stay so. So the verdict is
that of the last step alone, and the steps before it are there to show since when.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wikigpt.config import Config, find_root, relative
from wikigpt.errors import UserError
from wikigpt.files import read_json

FOLDER = "configs/reference"

# 97.5 % quantile of Student's t, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

# What changes no loss: where things are stored and computed, when it is looked at, what is written.
# The two engines have the same losses, and so has a batch however it is cut.
FREE = {
    "name", "seed", "data_dir", "runs_dir", "sampling", "corpus.files", "training.engine",
    "training.device", "training.precision", "training.compile", "training.data_workers",
    "training.fsdp", "training.eval_interval", "training.micro_batch_size",
    "training.grad_accumulation_steps",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """What one run has reached so far."""

    seed: int
    decides: dict[str, Any]
    """What `decides` gives."""
    bits_per_byte: dict[int, float]
    """On the whole validation split, by step."""
    seconds: float
    """Of its training steps; evaluations left out."""
    precision: str | None
    """`fp32` or `bf16`; None if the run doesn't say it."""


@dataclass(frozen=True)
class Trained:
    """One run of a reference: where it was, and for how long."""

    seed: int
    seconds: float
    hardware: str
    torch: str


@dataclass(frozen=True)
class Point:
    """All reference runs at one step."""

    step: int
    bits_per_byte: list[float]
    """One a run, lowest first."""

    @property
    def mean(self) -> float:
        return fmean(self.bits_per_byte)


@dataclass(frozen=True)
class Reference:
    """The curves of a few runs of one config."""

    config: str
    precision: str
    runs: list[Trained]
    decides: dict[str, Any]
    curve: list[Point]

    def band(self, point: Point) -> tuple[float, float]:
        """Where one new run falls in 95 of 100 cases, bits per byte."""
        n = len(point.bits_per_byte)
        half = T[n - 1] * stdev(point.bits_per_byte) * math.sqrt(1 + 1 / n)
        return point.mean - half, point.mean + half


def decides(config: Config, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Whatever decides the loss, up to chance: the settings, by their full names, and the sizes of
    the text.

    Args:
        manifest: the run's corpus.json.
    """
    found = {}
    for name, value in asdict(config).items():
        if name not in FREE:
            section = value if isinstance(value, dict) else {"": value}
            found |= {f"{name}.{key}".rstrip("."): v for key, v in section.items()}
    settings = config.training
    found = {name: value for name, value in found.items() if name not in FREE}
    found["blocks a step"] = settings.micro_batch_size * settings.grad_accumulation_steps
    for split in ("train", "validation"):
        for unit in ("bytes", "tokens"):
            found[f"{unit} of the {split} split"] = manifest["splits"][split][unit]
    return found


def curve_of(
    config: Config,
    manifest: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    precision: str | None,
) -> Curve:
    """A run as its folder tells it: config.yaml, corpus.json and metrics.jsonl.

    Raises:
        UserError: it is of masked tokens, or has no evaluation yet.
    """
    if config.training.objective == "mlm":
        raise UserError(
            f"The run {config.name} guesses masked tokens, which has no bits per byte to compare; "
            "compare runs of objective: causal."
        )
    scores = {r["step"]: r["bits_per_byte"] for r in records if r["kind"] == "evaluation"}
    if not scores:
        raise UserError(
            f"The run {config.name} has no evaluation yet; its first is at step "
            f"{min(config.training.eval_interval, config.training.max_steps)}, so train on."
        )
    seconds = max((r["seconds"] for r in records if r["kind"] == "step"), default=0.0)
    return Curve(config.seed, decides(config, manifest), scores, seconds, precision)


def make_reference(
    config: str,
    hardware: str,
    torch: str,
    curves: Sequence[Curve],
    earlier: Reference | None = None,
) -> Reference:
    """
    Args:
        hardware: of these curves' runs, in words.
        torch: its version.
        earlier: the reference that they are added to, if there is one already.

    Raises:
        UserError: fewer than 2 or more than 10 runs; two of one seed; runs that are different
            experiments, or not all finished.
    """
    before = earlier.runs if earlier else []
    runs = [*before, *(Trained(c.seed, round(c.seconds, 1), hardware, torch) for c in curves)]
    if not 2 <= len(runs) <= len(T) + 1:
        raise UserError(f"A reference takes 2 to {len(T) + 1} runs, not {len(runs)}.")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"The seeds {seeds} are not all different; equal runs have no spread.")
    first = curves[0]
    if earlier:
        means = {point.step: point.mean for point in earlier.curve}
        first = Curve(seeds[0], earlier.decides, means, runs[0].seconds, earlier.precision)
    steps = list(first.bits_per_byte)
    for curve in curves:
        pair = f"The runs of seeds {first.seed} and {curve.seed}"
        if changed := _changed(first.decides, curve.decides):
            raise UserError(
                f"{pair} are different experiments ({'; '.join(changed)}); take runs that differ "
                "in the seed only."
            )
        if list(curve.bits_per_byte) != steps or steps[-1] != first.decides["training.max_steps"]:
            raise UserError(
                f"{pair} were not evaluated at the same steps up to the last; finish them with one "
                "eval_interval."
            )
        if curve.precision != first.precision:
            raise UserError(
                f"{pair} were trained in {first.precision} and {curve.precision}; say "
                "precision=fp32 or precision=bf16 for all."
            )
    points = []
    for at, step in enumerate(steps):
        scores = list(earlier.curve[at].bits_per_byte) if earlier else []
        points.append(Point(step, sorted(scores + [c.bits_per_byte[step] for c in curves])))
    return Reference(config, first.precision or "unknown", runs, first.decides, points)


def read_references(folder: Path | None = None) -> list[Reference]:
    """All references of a folder, by their names; by default of configs/reference.

    Raises:
        UserError: a file is damaged.
    """
    found = []
    for path in sorted((folder or find_root() / FOLDER).glob("*.json")):
        try:
            found.append(TypeAdapter(Reference).validate_python(read_json(path)))
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{relative(path)} is no reference curve ({reason}); make it again."
            ) from None
    return found


def comparison(references: Sequence[Reference], run: Curve) -> str:
    """Everything `wikigpt compare` shows: the run beside the reference that is the nearest to it,
    and the answer.

    Raises:
        UserError: there are no references.
    """
    if not references:
        raise UserError(
            f"There is no reference curve in {FOLDER} to compare with; make one: "
            "python benchmarks/reference_curves.py configs/char-gpt.yaml --seeds 1 2 3."
        )
    reference = min(references, key=lambda reference: len(changed(reference, run)))
    parts = [describe(reference, run)]
    if changed(reference, run):
        names = ", ".join(reference.config for reference in references)
        parts[0] = f"No reference is of this experiment. There are: {names}.\n" + parts[0]
    if shared(reference, run):
        parts.append(comparison_table(reference, run))
    return "\n\n".join([*parts, verdict(reference, run)])


def changed(reference: Reference, run: Curve) -> list[str]:
    """What decides the loss and differs, as `key: reference -> run`; empty if the band applies."""
    return _changed(reference.decides, run.decides)


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    # A key that one side doesn't have is newer than it, and was what its default still is.
    defaults = decides(Config(), {"splits": {s: {"bytes": 0, "tokens": 0} for s in _SPLITS}})
    keys = [*a, *(key for key in b if key not in a)]
    values = {key: (a.get(key, defaults.get(key)), b.get(key, defaults.get(key))) for key in keys}
    return [f"{key}: {left} -> {right}" for key, (left, right) in values.items() if left != right]


_SPLITS = ("train", "validation")


def shared(reference: Reference, run: Curve) -> list[Point]:
    """The reference's points at steps where the run was evaluated too."""
    return [point for point in reference.curve if point.step in run.bits_per_byte]


def comparison_table(reference: Reference, run: Curve) -> str:
    """Step by step, as text; no verdict where the band doesn't apply."""
    applies = not changed(reference, run)
    rows = [("step", "yours", "reference", "difference", "band", "verdict")]
    for point in shared(reference, run):
        yours, (low, high) = run.bits_per_byte[point.step], reference.band(point)
        verdict = _place(yours, low, high) if applies else "-"
        rows.append((
            f"{point.step}", f"{yours:.3f}", f"{point.mean:.3f}", f"{yours - point.mean:+.3f}",
            f"{low:.3f} to {high:.3f}", verdict,
        ))  # fmt: skip
    return "\n".join(
        f"{step:>7}{yours:>9}{mean:>11}{difference:>12}{band:>18}  {verdict}"
        for step, yours, mean, difference, band, verdict in rows
    )


def _place(value: float, low: float, high: float) -> str:
    # Rounded as they are shown, so that no verdict contradicts its own line.
    value, low, high = round(value, 3), round(low, 3), round(high, 3)
    return "above" if value > high else "below" if value < low else "inside"


def verdict(reference: Reference, run: Curve) -> str:
    """The answer, in one sentence."""
    points = shared(reference, run)
    if not points:
        return (
            f"The run was not evaluated at any step of the reference {reference.config} "
            f"({', '.join(str(point.step) for point in reference.curve)}), so there is nothing to "
            "compare."
        )
    last = points[-1]
    yours, (low, high) = run.bits_per_byte[last.step], reference.band(last)
    steps = run.decides["training.max_steps"]
    where = f"At step {last.step}" + (f" of {steps}" if last.step < steps else "")
    band = f"the band of {reference.config} ({low:.3f} to {high:.3f})"
    if differ := changed(reference, run):
        return (
            f"{where} the run has {yours:.3f} bits/byte, {yours - last.mean:+.3f} beside the mean "
            f"of {reference.config}; it is another experiment ({_few(differ)}), so the band does "
            "not say whether that is normal."
        )
    if (place := _place(yours, low, high)) == "inside":
        return f"{where} {yours:.3f} bits/byte is inside {band}: your loss is normal."
    advice = {
        "above": "something is worse here than another seed explains (a change of the code? of a "
        "library?)",
        "below": "something is better here than another seed explains (a change of the code? "
        "validation text in the training text?)",
    }[place]
    return f"{where} {yours:.3f} bits/byte is {place} {band}: {advice}."


def _few(differences: Sequence[str], most: int = 4) -> str:
    rest = f"; and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + rest


def describe(reference: Reference, run: Curve) -> str:
    """What is compared, before the table."""
    runs = reference.runs
    hardware, torch = (
        " and ".join(dict.fromkeys(names))  # each once
        for names in ([run.hardware for run in runs], [run.torch for run in runs])
    )
    lines = [
        f"reference  {reference.config}: seeds {', '.join(str(run.seed) for run in runs)}, "
        f"{reference.precision}, {fmean(run.seconds for run in runs):.0f} s, {hardware}, "
        f"torch {torch}",
        f"yours      seed {run.seed}, {run.precision or 'unknown precision'}, {run.seconds:.0f} s",
    ]
    if run.precision not in (None, reference.precision):
        lines.append(
            f"note       The precisions differ ({reference.precision} and {run.precision}), which "
            "the band does not cover."
        )
    if differ := changed(reference, run):
        lines.append(f"differs    {_few(differ, most=len(differ))}")
    return "\n".join(lines)

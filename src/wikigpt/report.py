"""A finished run, judged: everything that evaluation/ can say of it, on one page.

`write_report("runs/char-gpt")` writes runs/char-gpt/report.html. The page is one file with its
pictures inside, so it can be sent and opened anywhere, without a network. Rejected: Markdown with
pictures beside it, which needs a viewer and falls apart when it is moved.

Each figure is computed from the run's folder and its corpus, in fp32, by the weights that are
saved. What depends on the corpus alone, the floors and what the n-grams know of grammar, is kept
beside the token shards for the next run; those are in a folder of their own for each corpus.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from wikigpt.blocks.prepare import Prepared, prepare, split_texts
from wikigpt.config import Config, find_root, relative
from wikigpt.errors import UserError
from wikigpt.evaluation.baselines import NGRAM_ORDERS, PPMD_ORDER, TRAINING_BYTES, Floor, floors
from wikigpt.evaluation.bits_per_byte import Loss, evaluate
from wikigpt.evaluation.copies import cut, words_of
from wikigpt.evaluation.ngram import ByteNgram
from wikigpt.evaluation.reference import comparison, read_references
from wikigpt.evaluation.repetition import Group, beside_human, loops, repetition_rows
from wikigpt.evaluation.syntax import (
    Accuracy,
    evaluate_pairs,
    log_probabilities,
    read_pairs,
    table_rows,
    total,
)
from wikigpt.files import atomic_write, read_json, sha256, write_json
from wikigpt.model.generate import complete, complete_batch
from wikigpt.model.gpt import GPT
from wikigpt.page import page, paragraph, picture, plain, quotation, table
from wikigpt.plots import plot_floors, plot_run, plot_syntax
from wikigpt.tokenizers import sample_evenly
from wikigpt.training import checkpoint
from wikigpt.training.hardware import pick_device
from wikigpt.training.logging import read_metrics
from wikigpt.training.run_folder import load_run, precision_of, read_curve

PAIRS = "data/eval/french_minimal_pairs.jsonl"
SAMPLES = 64
"""Texts that are judged for repetition."""
PROMPT_WORDS = 5
SHOWN = 4
"""Of the samples that are judged, the first so many are in the report."""
BATCH = 16


@dataclass(frozen=True)
class Report:
    """Where the page is, and its main figures."""

    path: Path
    loss: Loss
    """On the whole validation split, in windows as in training."""
    syntax: Accuracy | None
    """On all minimal pairs; None where they can't be judged, and the page says why."""
    looping: float
    """Share of the samples that go round in circles."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    model: GPT
    tokenizer: Any
    config: Config
    data: Prepared
    records: list[dict[str, Any]]
    which: str
    """The checkpoint: `best`, or `last` where there is no best yet."""
    step: int
    precision: str
    """What it was trained in."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]


def write_report(folder: str | Path, say: Callable[[str], None] = print) -> Report:
    """Evaluate a run and write `report.html` into its folder.

    Args:
        say: is told what came out, a line a part.

    Raises:
        UserError: no run there, or without a checkpoint; an encoder (`objective: mlm`); its text or
            its tokenizer has changed since.
    """
    run = _open(Path(folder), say)

    def tell(part: str, what: str) -> None:
        say(f"  {part:<12} {what}")

    tell("run", f"{relative(run.folder)}, checkpoint {run.which} of step {run.step}")
    sections = [("The run", _about(run)), ("Curves", _curves(run))]
    losses = _losses(run)
    loss = losses["as in training"]
    tell("bits/byte", ", ".join(f"{x.bits_per_byte:.3f} {name}" for name, x in losses.items()))
    sections.append(("Bits per byte", _bits_per_byte(run, losses)))

    @cache
    def training() -> list[str]:
        """Evenly from the whole; read when first asked for."""
        return list(sample_evenly(split_texts(run.config, "train", say), TRAINING_BYTES))

    below, section = _floors(run, losses, say)
    tell("floors", below)
    sections.append(("Without a neural network", section))
    syntax, section = _syntax(run, training)
    tell("syntax", _of_pairs(syntax) if syntax else section)
    sections.append(("Grammar", section if syntax else paragraph(section)))
    groups, section = _repetition(run, training())
    looping = fmean(loops(words) for words in groups[0].words)
    tell("repetition", f"{looping:.1%} of {len(groups[0].texts)} samples loop")
    sections += [("Repetition", section), ("Samples", _samples(run, groups[0]))]
    tell("samples", f"{len(run.config.sampling.prompts)} after the run's own prompts")

    report = Report(run.folder / "report.html", loss, syntax, looping)
    main = [
        ["bits per byte", "minimal pairs right (chance: 50 %)", "samples that loop"],
        [
            f"{loss.bits_per_byte:.3f}",
            "not judged" if syntax is None else f"{syntax.share:.1%}",
            f"{looping:.1%}",
        ],
    ]
    body = [table(main, "main"), *(f"<h2>{title}</h2>\n{html}" for title, html in sections)]
    body.append(paragraph(f"Written by wikigpt evaluate, torch {torch.__version__}."))
    with atomic_write(report.path) as file:
        file.write(page(run.config.name, "\n".join(body)).encode())
    return report


def _open(folder: Path, say: Callable[[str], None]) -> _Run:
    model, tokenizer, config = load_run(folder)
    checkpoints = folder / "checkpoints"
    which = "best" if checkpoint.find(checkpoints / "best") else "last"
    step = checkpoint.load_state(checkpoints / which)["progress"]["step"]
    data = prepare(config, say)
    own = read_json(folder / "corpus.json"), tokenizer.fingerprint
    if own != (data.manifest, data.manifest["tokenizer"]):
        raise UserError(
            f"The text or the tokenizer of {relative(folder)} has changed since it was trained, so "
            "its figures would be those of another; bring it back, or train again under another "
            "name=."
        )
    device = pick_device("auto")
    if device.type != "mps":  # which has no float64 to sum in
        model.to(device)
    precision = precision_of(folder) or "unknown precision"
    records = read_metrics(folder)
    return _Run(folder, model, tokenizer, config, data, records, which, step, precision)


# --- The parts ------------------------------------------------------------------------------------


def _about(run: _Run) -> str:
    c, shape, settings = run.config, run.model.config, run.config.training
    train, validation = run.data.train_counts, run.data.validation.counts
    rows = [
        ["model", f"{shape.arch}, {shape.n_layer} layers, {shape.n_head} heads, width "
                  f"{shape.n_embd}, context {shape.block_size}: {run.model.n_parameters:,} "
                  "parameters"],
        ["tokenizer", f"{c.tokenizer.kind}, {run.tokenizer.vocab_size:,} tokens"],
        *(
            [f"{name} text", f"{c.corpus.source}, {c.corpus.language}: {n.documents:,} articles, "
                             f"{n.bytes:,} bytes, {n.tokens:,} tokens"]
            for name, n in (("training", train), ("validation", validation))
        ),
        ["optimizer", f"{settings.optimizer}, learning rate {settings.learning_rate:g}, "
                      f"{settings.schedule}, {settings.warmup_steps} steps of warmup, "
                      f"{settings.micro_batch_size * settings.grad_accumulation_steps} blocks a "
                      f"step, engine {settings.engine}, seed {c.seed}"],
    ]  # fmt: skip
    steps = run.of("step")
    if steps:
        last = steps[-1]
        speed = median(record["tokens_per_second"] for record in steps)
        rows += [
            ["trained", f"{last['step']:,} of {settings.max_steps:,} steps, {last['tokens']:,} "
                        f"tokens ({last['tokens'] / train.tokens:.1f} epochs)"],
            ["time", f"{last['seconds']:,.0f} s of training, "
                     f"{sum(r['seconds'] for r in run.of('evaluation')):,.0f} s of evaluations"],
            ["machine", f"{run.precision}, {speed:,.0f} tokens/s (median), {last['mfu']:.1%} "
                        "of its measured matrix speed"],
        ]  # fmt: skip
    rows.append(["judged here", f"checkpoint {run.which} of step {run.step:,}, in fp32"])
    text = (run.folder / "config.yaml").read_text(encoding="utf-8")
    settings = f"<details><summary>All settings</summary><pre>{plain(text)}</pre></details>"
    return table([["", ""], *rows], "words") + settings


def _curves(run: _Run) -> str:
    curves = plot_run(run.folder)
    drawn = picture(curves, "Bits per byte, learning rate, gradient norm, speed")
    references = read_references()
    if not references or not run.of("evaluation"):
        return drawn
    return f"{drawn}<pre>{plain(comparison(references, read_curve(run.folder)))}</pre>"


def _losses(run: _Run) -> dict[str, Loss]:
    half = max(1, run.model.config.block_size // 2)
    validation = run.data.validation
    return {
        "as in training": evaluate(run.model, validation, BATCH),
        "with overlapping windows": evaluate(run.model, validation, BATCH, stride=half),
    }


def _bits_per_byte(run: _Run, losses: dict[str, Loss]) -> str:
    size = run.model.config.block_size
    strides = (size, max(1, size // 2))
    rows = [["windows", "stride, tokens", "bits/byte", "nats/char", "nats/token"]]
    for (name, x), stride in zip(losses.items(), strides, strict=True):
        values = (x.bits_per_byte, x.nats_per_char, x.nats_per_token)
        rows.append([name, f"{stride}", *(f"{value:.3f}" for value in values)])
    text = (
        f"On the whole validation split: {run.data.validation.counts.bytes:,} bytes, each token "
        "paid for once. Windows as in training know nothing of the one before; overlapping ones "
        f"give each token at least {size - strides[1]} tokens of context, but at the beginning."
    )
    logged = [r["bits_per_byte"] for r in run.of("evaluation") if r["step"] == run.step]
    if logged:
        text += f" During training, the same checkpoint was measured at {logged[0]:.3f}"
        text += f" in {run.precision}."
    return paragraph(text) + table(rows)


def _floors(run: _Run, losses: dict[str, Loss], say: Callable[[str], None]) -> tuple[str, str]:
    """A sentence, and the section."""
    try:
        import pyppmd  # noqa: F401

        ppmd = PPMD_ORDER
    except ImportError:
        ppmd = None
    key = {"training bytes": TRAINING_BYTES, "orders": list(NGRAM_ORDERS), "ppmd": ppmd}
    rows = _kept(
        run.data.folder / "floors.json", key, lambda: [asdict(f) for f in floors(run.config, say)]
    )
    found = [Floor(**row) for row in rows]
    ours = [Floor(f"{run.config.name}, {name}", x.bits_per_byte) for name, x in losses.items()]
    score = ours[0].bits_per_byte
    worse = sum(floor.bits_per_byte > score for floor in found)
    lowest = min(found, key=lambda floor: floor.bits_per_byte)
    below = (
        f"{worse} of {len(found)} need more bits than the run, the best needs "
        f"{lowest.bits_per_byte:.3f} ({lowest.name})"
    )
    text = "The same bytes by programs that only count. A model that is worth its parameters is "
    text += f"below all of them; here {below}."
    if ppmd is None:
        text += " PPMd is left out: pyppmd is not installed."
    drawn = picture(plot_floors(found, ours), "Floors and the run, in bits per byte")
    return below, paragraph(text) + drawn


def _syntax(run: _Run, training: Callable[[], list[str]]) -> tuple[Accuracy | None, str]:
    """All pairs together, and the section; or None, and why it is so."""
    language, path = run.config.corpus.language, find_root() / PAIRS
    if language != "fr":
        return None, f"Not judged: the minimal pairs are French, and the run learnt {language}."
    if not path.is_file():
        return None, f"Not judged: there is no {PAIRS} here; type the command in the repository."
    pairs = read_pairs(path)
    try:
        ours = evaluate_pairs(pairs, partial(log_probabilities, run.model, run.tokenizer))
    except UserError as error:  # a context too short for a sentence
        return None, f"Not judged: {error}"
    order = NGRAM_ORDERS[-1]
    key = {"pairs": sha256(path), "order": order, "training bytes": TRAINING_BYTES}

    def count() -> list[dict[str, Any]]:
        ngram = ByteNgram.fit(training(), order)
        return [asdict(result) for result in evaluate_pairs(pairs, ngram.log_probabilities)]

    counted = [Accuracy(**row) for row in _kept(run.data.folder / "syntax.json", key, count)]
    columns = {run.config.name: ours, f"byte {order}-grams": counted}
    rows = table_rows(columns)
    text = (
        "Of two sentences, one right and one wrong by one form, which is likelier? "
        f"In percent, with 95 % intervals; the n-grams have counted the training text. {PAIRS}."
    )
    rows = [[row[0].replace("_", " "), *row[1:]] for row in rows]
    drawn = picture(plot_syntax(columns), "Share of pairs judged rightly, by phenomenon")
    return total(ours), paragraph(text) + drawn + table(rows)


def _of_pairs(result: Accuracy) -> str:
    low, high = result.interval
    return f"{result.share:.1%} of {result.n:,} pairs ({low:.1%} to {high:.1%}); chance is 50 %"


def _repetition(run: _Run, training: list[str]) -> tuple[tuple[Group, Group], str]:
    settings = run.config.sampling
    articles = list(split_texts(run.config, "validation"))
    n = min(SAMPLES, len(articles))
    prompts = [cut(articles[i * len(articles) // n], PROMPT_WORDS) for i in range(n)]
    human = [text[len(cut(text, PROMPT_WORDS)) :] for text in articles]
    # No longer than n human texts are, so that each sample finds one of its length.
    longest = sorted((len(words_of(text)) for text in human), reverse=True)[n - 1]
    samples = []
    for first in range(0, n, BATCH):
        batch = range(first, min(first + BATCH, n))
        samples += complete_batch(
            run.model, run.tokenizer, [prompts[i] for i in batch], settings.max_new_tokens,
            seeds=batch, **settings.decoding,
        )  # fmt: skip
    groups = beside_human([cut(text, longest) for text in samples], human, training)
    of_all, seen = run.data.train_counts.bytes, sum(len(text.encode()) for text in training)
    text = (
        f"{n} validation articles, taken evenly; the run is given {PROMPT_WORDS} words of each and "
        f"goes on ({_decoding(run)}, seeds 0 to {n - 1}; cut to {longest} words). Beside it what "
        "people wrote after the first words, as many texts of the same lengths. Words exist, and "
        f"are copied, if they stand in the training text, of which {seen:,} of {of_all:,} bytes "
        "were searched."
    )
    return groups, paragraph(text) + table(repetition_rows(*groups))


def _samples(run: _Run, group: Group) -> str:
    settings, language = run.config.sampling, run.config.corpus.language
    parts = [paragraph(f"{_decoding(run)}, seed {run.config.seed}; not chosen by hand.")]
    for prompt in settings.prompts:
        pieces = complete(
            run.model, run.tokenizer, prompt, settings.max_new_tokens, seed=run.config.seed,
            **settings.decoding,
        )  # fmt: skip
        parts.append(quotation("".join(pieces), language, prompt))
    parts.append(
        paragraph("And the first of those that were judged for repetition, without their prompts:")
    )
    for text, origin in list(zip(group.texts, group.origins, strict=True))[:SHOWN]:
        unknown = ", ".join(dict.fromkeys(origin.unknown)) or "none"
        note = f"Invented words: {unknown}. Longest copy: « {origin.copy} »"
        parts.append(quotation(text, language, note=note))
    return "\n".join(parts)


def _decoding(run: _Run) -> str:
    settings = run.config.sampling
    return f"{settings.in_words}, {settings.max_new_tokens} tokens at most"


# --- What is looked up once -----------------------------------------------------------------------


def _kept(path: Path, key: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` gives, from a file of an earlier call with the same key if there is one."""
    try:
        found = read_json(path)
        if found["key"] == key:
            return found["value"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    value = make()
    write_json(path, {"key": key, "value": value})
    return value

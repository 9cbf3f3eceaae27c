"""Does it know grammar? Minimal pairs: which of two sentences does a model find likelier?

« Les ponts du village datent de 1848. » against « Les ponts du village date de 1848. »: the same
sentence, one form apart, one right and one wrong (BLiMP: Warstadt et al., 2020). No prompt, no
threshold, no training; half right is chance.

The score is the log-probability of the whole sentence, in nats, after the end-of-text token. What
was rejected: dividing it by the number of tokens or characters. That answers "how surprising is a
token of it?" and favours whichever sentence was cut in more pieces, so the verdict would hang on
the tokenizer. The whole probability does charge for length, and a longer form costs even a model
that knows nothing: that is a bias of the *pair*, and it is answered in the data. The pairs of
data/eval have mirrors (what is good in one is bad in the other), so that whatever looks only at
length or at the form itself gets one of two right. Published sets need not be balanced; `uniform`
says what a model would score that only counts tokens, and that column belongs beside theirs.

A model that gives both the same probability is half right. Intervals are Wilson's, and take the
pairs to be independent draws. Mirrored pairs are not quite: where a model is biased towards a form,
one gains what the other loses, and the interval errs on the wide side.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from wikigpt.errors import UserError
from wikigpt.evaluation.interval import wilson

TIE = 1e-6
"""Nats. A ratio of one in a million is arithmetic, not an opinion."""

# The names that these things have in BLiMP's own files and in its descendants.
GOOD = ("good", "sentence_good", "sen")
BAD = ("bad", "sentence_bad", "wrong_sen")
PHENOMENON = ("phenomenon", "UID", "linguistic_phenomenon")


@dataclass(frozen=True)
class Pair:
    good: str
    bad: str
    phenomenon: str


@dataclass(frozen=True)
class Accuracy:
    """How many of n pairs a model judged rightly; a tie counts one half."""

    phenomenon: str
    n: int
    right: float

    @property
    def share(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson, 1927)."""
        return wilson(self.right, self.n)


def read_pairs(path: str | Path) -> list[Pair]:
    """Minimal pairs from a file in BLiMP's manner: JSON Lines, or .tsv with a header line.

    The sentences are called `good` and `bad`, `sentence_good` and `sentence_bad`, or `sen` and
    `wrong_sen`; the phenomenon `phenomenon`, `UID` or `linguistic_phenomenon`, and if it has no
    name the file's is taken. Other fields are not read.

    Raises:
        UserError: no such file, or a line that is not such a pair; an evaluation on part of a set
            would not be comparable, so nothing is skipped.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file of minimal pairs {path}.")
    rows = _tsv if path.suffix == ".tsv" else _json_lines
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8, or get it again."
        ) from None
    pairs = [_pair(row, path, number) for number, row in rows(lines, path)]
    if not pairs:
        raise UserError(f"There are no minimal pairs in {path}; get the file again.")
    return pairs


def _json_lines(lines: list[str], path: Path) -> Iterable[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(
                f"{path}, line {number} is not JSON; give one pair a line, or get the file again."
            ) from None


def _tsv(lines: list[str], path: Path) -> Iterable[tuple[int, Any]]:
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in reader:
        yield reader.line_num, row


def _pair(row: Any, path: Path, number: int) -> Pair:
    where = f"{path}, line {number}"
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object with a good and a bad sentence; mend the line.")
    found = {}
    for field, names in (("good", GOOD), ("bad", BAD)):
        name = next((name for name in names if name in row), None)
        if name is None:
            raise UserError(f"{where} has none of the fields {', '.join(names)}; rename yours.")
        found[field] = row[name].strip() if isinstance(row[name], str) else ""
        if not found[field]:
            raise UserError(f"{where}: {name} is not a sentence; mend the line or take it out.")
    if found["good"] == found["bad"]:
        raise UserError(f"{where}: both sentences are the same; mend the line or take it out.")
    name = next((name for name in PHENOMENON if row.get(name)), None)
    return Pair(found["good"], found["bad"], str(row[name]) if name else path.stem)


@torch.inference_mode()
def log_probabilities(
    model: Any, tokenizer: Any, sentences: Sequence[str], batch_size: int = 16
) -> list[float]:
    """ln P(sentence | end-of-text) of each sentence, in nats.

    What comes after the sentence is not charged: no text of the corpus ends after one.

    Args:
        model: our GPT, or any `AutoModelForCausalLM`.
        tokenizer: ours, or any `AutoTokenizer`; it must be the model's.
        batch_size: only the speed and the memory depend on it. Shorter sentences are padded on the
            right, where a causal model can't see it.

    Raises:
        UserError: a sentence that is empty or longer than the model's context. It is not cut: where
            the subject falls out of sight, its verb can't be judged.
    """
    start = _start_id(tokenizer)
    longest = _longest_context(model)
    ids_of = [_encode(tokenizer, sentence) for sentence in sentences]
    for sentence, ids in zip(sentences, ids_of, strict=True):
        if not ids:
            raise UserError(f"{sentence!r} has no tokens; take it out.")
        if longest is not None and len(ids) > longest:
            raise UserError(
                f"« {sentence} » has {len(ids)} tokens and the model sees {longest}; take the "
                "sentence out, or evaluate a model with a larger block_size."
            )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    scores = [0.0] * len(sentences)
    # Sentences of about the same length side by side need the least padding.
    order = sorted(range(len(sentences)), key=lambda i: len(ids_of[i]))
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        T = max(len(ids_of[i]) for i in batch)
        inputs_BT = torch.full((len(batch), T), start)
        targets_BT = torch.full((len(batch), T), -100)
        for row, i in enumerate(batch):
            n = len(ids_of[i])
            inputs_BT[row, 1:n] = torch.tensor(ids_of[i][:-1])
            targets_BT[row, :n] = torch.tensor(ids_of[i])
        logits_BTV = model(inputs_BT.to(device))
        logits_BTV = getattr(logits_BTV, "logits", logits_BTV)
        # Ignored targets come out as 0. Summed in float64, so that the order of summing is no
        # opinion either.
        nats_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2), targets_BT.to(device), reduction="none"
        )
        for i, total in zip(batch, (-nats_BT.double().sum(dim=1)).tolist(), strict=True):
            scores[i] = total
    model.train(was_training)
    return scores


def _start_id(tokenizer: Any) -> int:
    """The token that texts begin after: ours, or the hub's by one of its names."""
    for name in ("end_of_text_id", "bos_token_id", "eos_token_id"):
        if (found := getattr(tokenizer, name, None)) is not None:
            return found
    raise UserError(
        "The tokenizer names no token that a text begins after (bos_token or eos_token); set one."
    )


def _encode(tokenizer: Any, sentence: str) -> list[int]:
    if hasattr(tokenizer, "end_of_text_id"):
        return list(tokenizer.encode(sentence))
    return tokenizer.encode(sentence, add_special_tokens=False)


def _longest_context(model: Any) -> int | None:
    config = getattr(model, "config", None)
    found = getattr(config, "block_size", None)
    return getattr(config, "max_position_embeddings", None) if found is None else found


def uniform(tokenizer: Any) -> Callable[[Sequence[str]], list[float]]:
    """The scores of a model that knows nothing and pays the same for every token."""
    return lambda sentences: [-float(len(_encode(tokenizer, text))) for text in sentences]


def evaluate_pairs(
    pairs: Sequence[Pair], score: Callable[[Sequence[str]], Sequence[float]]
) -> list[Accuracy]:
    """The accuracy on each phenomenon, in the order of the file.

    Args:
        score: log-probabilities of sentences in nats, such as
            `partial(log_probabilities, model, tokenizer)` or `ByteNgram.log_probabilities`.

    Raises:
        UserError: the model gives a sentence no finite log-probability.
    """
    scores = score([text for pair in pairs for text in (pair.good, pair.bad)])
    right: dict[str, list[float]] = {}
    for pair, good, bad in zip(pairs, scores[::2], scores[1::2], strict=True):
        if not (math.isfinite(good) and math.isfinite(bad)):
            raise UserError(
                f"The model gives « {pair.good} » and « {pair.bad} » the log-probabilities {good} "
                f"and {bad}; its weights are probably broken (NaN), so evaluate another checkpoint."
            )
        verdict = 0.5 if abs(good - bad) < TIE else float(good > bad)
        right.setdefault(pair.phenomenon, []).append(verdict)
    return [Accuracy(name, len(verdicts), sum(verdicts)) for name, verdicts in right.items()]


def total(results: Sequence[Accuracy]) -> Accuracy:
    """All pairs together; a phenomenon with more pairs weighs more."""
    return Accuracy("all", sum(r.n for r in results), sum(r.right for r in results))


def table(columns: Mapping[str, Sequence[Accuracy]]) -> str:
    """`table_rows` as plain text.

    Raises:
        UserError: as `table_rows`.
    """
    rows = table_rows(columns)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def table_rows(columns: Mapping[str, Sequence[Accuracy]]) -> list[list[str]]:
    """A heading, a row a phenomenon and one for all; a column a model, « 71 (64 to 78) » in
    percent.

    Args:
        columns: what `evaluate_pairs` gave for the same pairs, by the model's name.

    Raises:
        UserError: the columns are not of the same pairs.
    """
    shapes = {tuple((r.phenomenon, r.n) for r in results) for results in columns.values()}
    if len(shapes) != 1:
        raise UserError("These results are of different pairs; evaluate all models on the same.")
    rows = [["phenomenon", "n", *columns, "chance"]]
    for line in zip(*([*results, total(results)] for results in columns.values()), strict=True):
        rows.append([line[0].phenomenon, str(line[0].n), *map(_percent, line), "50"])
    return rows


def _percent(result: Accuracy) -> str:
    low, high = result.interval
    return f"{100 * result.share:.0f} ({100 * low:.0f} to {100 * high:.0f})"

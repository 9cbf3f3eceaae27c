"""Which decoding setting gets a model out of its loops, and what does that cost?

A setting that never loops is easy to find: draw at random. So every setting writes on after the
beginnings of the same validation articles, and what it wrote is measured beside how these articles
really go on, cut to as many words: not only whether it loops, but whether words exist, how much is
recited, and how surprised the model itself is.

bits/byte        what the model charges for the text, at temperature 1, whatever setting wrote it.
                 Human text is not what a model finds likeliest; text far below it is dull, text far
                 above it is what the model takes for noise (Holtzman et al., 2020)
told apart       the mean over all figures of |Cliff's delta| (Cliff, 1993): how much more often a
                 sample's figure lies above than below that of a human text. 0: the figures don't
                 tell who wrote it; 1: any one of them does. Two sets of human texts don't come to 0
                 either, but to `chance_level`. It knows nothing of sense

Rejected as the one figure: the model's own log-probability (greedy is best at it by definition),
and a larger model as the judge (it would have to be downloaded, and it has been trained on texts
that nobody here knows).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F

from wikigpt.errors import UserError
from wikigpt.evaluation.copies import cut, origins, words_of
from wikigpt.evaluation.repetition import Group, distinct, longest_repeat, loops, seq_rep
from wikigpt.model.generate import generate_batch
from wikigpt.model.gpt import GPT

GRID: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "greedy, penalty 1.1": {"temperature": 0, "repetition_penalty": 1.1},
    "greedy, penalty 1.3": {"temperature": 0, "repetition_penalty": 1.3},
    "greedy, no 4 tokens twice": {"temperature": 0, "no_repeat_ngram_size": 4},
    "greedy, no 8 tokens twice": {"temperature": 0, "no_repeat_ngram_size": 8},
    "temperature 0.7": {"temperature": 0.7},
    "0.7, top-p 0.9": {"temperature": 0.7, "top_p": 0.9},
    "0.7, min-p 0.1": {"temperature": 0.7, "min_p": 0.1},
    "0.7, penalty 1.1": {"temperature": 0.7, "repetition_penalty": 1.1},
    "0.7, no 8 tokens twice": {"temperature": 0.7, "no_repeat_ngram_size": 8},
    "temperature 1": {"temperature": 1},
    "1, top-p 0.9": {"temperature": 1, "top_p": 0.9},
    "1, top-p 0.95": {"temperature": 1, "top_p": 0.95},
    "1, min-p 0.05": {"temperature": 1, "min_p": 0.05},
    "1, min-p 0.1": {"temperature": 1, "min_p": 0.1},
    "1, top-p 0.9, penalty 1.1": {"temperature": 1, "top_p": 0.9, "repetition_penalty": 1.1},
    "1, min-p 0.1, no 8 tokens twice":
        {"temperature": 1, "min_p": 0.1, "no_repeat_ngram_size": 8},
}  # fmt: skip
PROMPT_WORDS = 4


@dataclass(frozen=True)
class Judged:
    """What one setting wrote, beside how the same articles go on."""

    name: str
    settings: dict[str, float]
    samples: Group
    human: Group
    ended: float
    """Share of the samples that ended by themselves, before the last token that they might have."""
    bits: tuple[list[float], list[float]]
    """Bits per byte of each text, of samples and human; empty texts have none."""

    @property
    def figures(self) -> dict[str, tuple[list[float], list[float]]]:
        """Of each text, by name: samples, human. Higher is neither better nor worse."""

        def both(of) -> tuple[list[float], list[float]]:
            return of(self.samples), of(self.human)

        return {
            "loops": both(lambda g: [float(loops(words)) for words in g.words]),
            "seq-rep-4": both(lambda g: [seq_rep(words) for words in g.words]),
            "longest repeat": both(lambda g: [float(longest_repeat(words)) for words in g.words]),
            "words that exist": both(
                lambda g: [1 - len(o.unknown) / o.words for o in g.origins if o.words]
            ),
            "longest copy": both(lambda g: [float(o.copied) for o in g.origins]),
            "bits/byte": self.bits,
        }

    @property
    def told_apart(self) -> float:
        """0 to 1: the mean over all figures of |Cliff's delta|."""
        return fmean(abs(cliffs_delta(*pair)) for pair in self.figures.values())

    def record(self) -> dict[str, Any]:
        """All means, for a file: [samples, human]."""
        means = {
            name: [fmean(values) if values else None for values in pair]
            for name, pair in self.figures.items()
        }
        means |= {
            f"distinct-{n}": [distinct(g.words, n) for g in (self.samples, self.human)]
            for n in (1, 2, 4)
        }
        return {
            "name": self.name, "settings": self.settings, "texts": len(self.samples.texts),
            "words": fmean(map(len, self.samples.words)), "ended": self.ended,
            "told_apart": self.told_apart, "figures": means,
        }  # fmt: skip


def compare_settings(
    model: GPT,
    tokenizer: Any,
    validation: Iterable[str],
    training: Iterable[str],
    grid: Mapping[str, dict[str, float]] = GRID,
    *,
    samples: int = 64,
    new_tokens: int = 200,
    words: int = 80,
    seed: int = 1337,
) -> list[Judged]:
    """Let a model write with each setting of a grid, and measure it; the same seeds for each.

    Args:
        validation: articles that it was not trained on; prompts are the first four words of some.
        training: the texts that it was trained on; read once, from beginning to end.
        samples: texts a setting.
        new_tokens: the longest that one can get; it is then cut to `words`.
        words: words, numbers and signs of a text that are judged, prompts left out.

    Raises:
        UserError: fewer articles than `samples` are so long; a setting is out of range.
    """
    chosen = prompts(validation, samples, words)
    written, ended = {}, {}
    for name, settings in grid.items():
        ids = _write(model, tokenizer, [prompt for prompt, _ in chosen], new_tokens, seed, settings)
        written[name] = [cut(tokenizer.decode(new), words) for new in ids]
        ended[name] = fmean(len(new) < new_tokens for new in ids)
    twins = {
        name: [
            cut(rest, len(words_of(text))) for text, (_, rest) in zip(texts, chosen, strict=True)
        ]
        for name, texts in written.items()
    }
    # One pass over the training text for all of them.
    found = iter(origins([t for side in (written, twins) for texts in side.values() for t in texts],
                         training))  # fmt: skip
    groups = [
        {
            name: Group(kind, texts, [words_of(t) for t in texts], [next(found) for _ in texts])
            for name, texts in side.items()
        }
        for kind, side in (("samples", written), ("human text", twins))
    ]
    result = []
    for name, settings in grid.items():
        sides = tuple(side[name] for side in groups)
        bits = tuple(
            [
                bits_per_byte_of(model, tokenizer, prompt, text)
                for text, (prompt, _) in zip(side.texts, chosen, strict=True)
                if text
            ]
            for side in sides
        )
        result.append(Judged(name, dict(settings), *sides, ended[name], bits))
    return result


def prompts(articles: Iterable[str], n: int, words: int) -> list[tuple[str, str]]:
    """The beginnings of n articles, evenly from all that are long enough, and how they go on.

    Raises:
        UserError: fewer than n go on for so many words.
    """
    if n < 1:
        raise UserError(f"samples is {n}; it must be 1 or more.")
    found = []
    for text in articles:
        beginning = cut(text, PROMPT_WORDS)
        if len(words_of(rest := text[len(beginning) :])) >= words:
            found.append((beginning, rest))
    if len(found) < n:
        raise UserError(
            f"Only {len(found)} validation articles go on for {words} words after their first "
            f"{PROMPT_WORDS}, and {n} are asked for; ask for fewer samples, or fewer words."
        )
    return [found[i * len(found) // n] for i in range(n)]


def _write(
    model: GPT,
    tokenizer: Any,
    beginnings: Sequence[str],
    new_tokens: int,
    seed: int,
    settings: dict,
) -> list[list[int]]:
    end = tokenizer.end_of_text_id
    new_ids: list[list[int]] = [[] for _ in beginnings]
    prompt_ids = [[end, *tokenizer.encode(beginning)] for beginning in beginnings]
    seeds = range(seed, seed + len(beginnings))
    for b, new in generate_batch(
        model, prompt_ids, new_tokens, stop_id=end, seeds=seeds, **settings
    ):
        new_ids[b].append(new)
    return new_ids


@torch.inference_mode()
def bits_per_byte_of(model: GPT, tokenizer: Any, prompt: str, text: str) -> float:
    """What the model charges for a text after its prompt, as far as its context reaches."""
    before = [tokenizer.end_of_text_id, *tokenizer.encode(prompt)]
    after = tokenizer.encode(text)[: model.config.block_size + 1 - len(before)]
    while not text.startswith(tokenizer.decode(after)):
        after.pop()  # the context ends inside a character
    if not after:
        raise UserError(f"« {prompt} » fills the model's context; take shorter prompts.")
    ids_T = torch.tensor([*before, *after], device=model.token_embedding.weight.device)
    logits_TV = model(ids_T[None, :-1])[0, len(before) - 1 :]
    nats = F.cross_entropy(logits_TV.float(), ids_T[len(before) :], reduction="sum").item()
    return nats / math.log(2) / len(tokenizer.decode(after).encode())


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    """P(x > y) - P(x < y) for x of a and y of b; 0 if one of them is empty."""
    if not a or not b:
        return 0.0
    return sum((x > y) - (x < y) for x in a for y in b) / (len(a) * len(b))


def chance_level(n: int) -> float:
    """What `told_apart` is expected to be for two sets of n texts by the same writer.

    Without ties, delta has the mean 0 and the variance (2n + 1) / 3n² (Mann & Whitney, 1947); ties
    make it smaller.
    """
    return math.sqrt(2 / math.pi * (2 * n + 1) / (3 * n * n))


def settings_table(judged: Sequence[Judged]) -> str:
    """A line a setting, each figure beside that of human text, as text."""
    columns = {
        "ended": lambda j: f"{j.ended:.0%}",
        "words": lambda j: f"{fmean(map(len, j.samples.words)):.0f}",
        "loops": lambda j: _beside(j, "loops", "{:.0%}"),
        "seq-rep-4": lambda j: _beside(j, "seq-rep-4", "{:.2f}"),
        "distinct-2": lambda j: f"{distinct(j.samples.words, 2):.2f} | "
                                f"{distinct(j.human.words, 2):.2f}",
        "words exist": lambda j: _beside(j, "words that exist", "{:.0%}"),
        "longest copy": lambda j: _beside(j, "longest copy", "{:.1f}"),
        "bits/byte": lambda j: _beside(j, "bits/byte", "{:.2f}"),
        "told apart": lambda j: f"{j.told_apart:.2f}",
    }  # fmt: skip
    rows = [["", *columns]] + [[j.name, *(cell(j) for cell in columns.values())] for j in judged]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    n = len(judged[0].samples.texts)
    lines.append(f"\n{n} texts a setting; samples | human text of the same articles and lengths.")
    lines.append(f"Told apart: two sets of human texts come to about {chance_level(n):.2f}.")
    return "\n".join(lines)


def _beside(judged: Judged, figure: str, form: str) -> str:
    return " | ".join(form.format(_mean(values)) for values in judged.figures[figure])


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan

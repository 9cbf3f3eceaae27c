"""Does it go round in circles, invent words, recite? Each figure beside that of human text.

No such figure means anything alone: articles repeat themselves as well, and copy formulas that
stand in a thousand others. So every sample gets a twin, the beginning of a validation article cut
to as many words, and everything is measured on both. Words are those of copies.py, so a model of
characters and one of BPE are judged alike.

distinct-n       different n-grams / n-grams, over all texts together (Li et al., 2016)
seq-rep-4        1 - different 4-grams / 4-grams, in each text (Welleck et al., 2019)
longest repeat   the longest stretch of words that comes again later in the text, without overlap
loops            somewhere a stretch of words, one or more, stands at least three whole times in a
                 row, and with what follows of a fourth that takes 12 words or more, so that three
                 dots are no loop
words that exist, longest copy       against the training text, see copies.py

Means are over texts, with a 95 % interval: of the normal distribution, and Wilson's for a share.
distinct-n has none; it depends on how many words there are, here as many on both sides.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from wikigpt.errors import UserError
from wikigpt.evaluation.copies import Origin, SuffixAutomaton, cut, origins, words_of
from wikigpt.evaluation.interval import half_width, wilson

LOOP_TIMES, LOOP_WORDS = 3, 12


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def distinct(texts: Iterable[Sequence[str]], n: int) -> float:
    """Share of different n-grams among all n-grams of the texts, given as words; 1 if there are
    none."""
    found = [gram for words in texts for gram in ngrams(words, n)]
    return len(set(found)) / len(found) if found else 1.0


def seq_rep(words: Sequence[str], n: int = 4) -> float:
    """Share of the n-grams that an earlier one repeats; 0 for a text without any."""
    return 1 - distinct([words], n)


def longest_repeat(words: Sequence[str]) -> int:
    """Length of the longest stretch that stands twice without overlap, in words."""
    return SuffixAutomaton(words).longest_repeat()


def loops(words: Sequence[str]) -> bool:
    """Whether a stretch stands `LOOP_TIMES` times in a row, over `LOOP_WORDS` words at least."""
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(w, len(numbers)) for w in words])
    for period in range(1, len(ids) // LOOP_TIMES + 1):
        # Between two places where a word is not that of one period before, all words are.
        breaks = np.flatnonzero(ids[period:] != ids[:-period])
        run = np.diff(np.concatenate([[-1], breaks, [len(ids) - period]])).max() - 1
        if run + period >= max(LOOP_TIMES * period, LOOP_WORDS):
            return True
    return False


@dataclass(frozen=True)
class Group:
    """Texts of one kind, and what was found in each."""

    name: str
    texts: list[str]
    words: list[list[str]]
    origins: list[Origin]


def beside_human(
    samples: Sequence[str], human: Iterable[str], training: Iterable[str]
) -> tuple[Group, Group]:
    """Samples and as many human texts of the same lengths, ready for `repetition_table`.

    Args:
        samples: what a model wrote, without the prompts.
        human: articles that the model was not trained on; read as far as needed.
        training: the texts that it was trained on; read once, from beginning to end.

    Raises:
        UserError: there are no samples; no article is as long as one of them.
    """
    twins = same_lengths(samples, human)
    found = origins([*samples, *twins], training)
    return tuple(
        Group(name, list(texts), [words_of(text) for text in texts], of)
        for name, texts, of in (
            ("samples", samples, found[: len(samples)]),
            ("human text", twins, found[len(samples) :]),
        )
    )


def same_lengths(samples: Sequence[str], human: Iterable[str]) -> list[str]:
    """For each sample a human text cut to as many words; each is given to the longest sample that
    it is long enough for and that has none yet.

    Raises:
        UserError: as `beside_human`.
    """
    if not samples:
        raise UserError("There are no samples to judge; generate at least one.")
    lengths = [len(words_of(sample)) for sample in samples]
    waiting = sorted(range(len(samples)), key=lengths.__getitem__)
    twins: dict[int, str] = {}
    for text in human:
        size = len(words_of(text))
        if place := bisect.bisect_right(waiting, size, key=lengths.__getitem__):
            sample = waiting.pop(place - 1)
            twins[sample] = cut(text, lengths[sample])
        if not waiting:
            return [twins[i] for i in range(len(samples))]
    raise UserError(
        f"{len(waiting)} of {len(samples)} samples have no human text of the same length to stand "
        f"beside; the longest of them has {lengths[waiting[-1]]} words. Take fewer or shorter ones."
    )


def repetition_table(*groups: Group) -> str:
    """`repetition_rows` as text."""
    rows = repetition_rows(*groups)
    return "\n".join(f"{name:<22}" + "".join(f"{c:>24}" for c in cells) for name, *cells in rows)


def repetition_rows(*groups: Group) -> list[list[str]]:
    """A heading and a row a figure; one column a group."""
    rows = [["", *(group.name for group in groups)]]

    def row(name: str, cell) -> None:
        rows.append([name, *(cell(group) for group in groups)])

    row("texts", lambda g: f"{len(g.texts)}")
    row("words a text", lambda g: f"{fmean(map(len, g.words)):.1f}")
    for n in range(1, 5):
        row(f"distinct-{n}", lambda g, n=n: f"{distinct(g.words, n):.3f}")
    row("seq-rep-4", lambda g: _mean([seq_rep(words) for words in g.words], 3))
    row("longest repeat, words", lambda g: _mean([longest_repeat(w) for w in g.words], 1))
    row("texts that loop", lambda g: _share([loops(words) for words in g.words]))
    row("words that exist, %", lambda g: _mean(
        [100 - 100 * len(o.unknown) / o.words for o in g.origins if o.words], 1))  # fmt: skip
    row("longest copy, words", lambda g: _mean([o.copied for o in g.origins], 1))
    row("the longest of all", lambda g: f"{max(o.copied for o in g.origins)}")
    return rows


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.{digits}f} ± {half_width(values):.{digits}f}"


def _share(values: Sequence[bool]) -> str:
    low, high = wilson(sum(values), len(values))
    return f"{sum(values) / len(values):.1%} ({low:.1%} to {high:.1%})"

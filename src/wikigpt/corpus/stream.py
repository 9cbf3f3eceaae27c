"""Many files -> one `datasets.IterableDataset`: mixed, shuffled, shared out, exactly resumable.

The files of every source are dealt into lanes; a lane reads its files in turn, mixes its sources by
weight and shuffles inside windows. What a lane yields is a pure function of the arguments, so its
position is one number, and `datasets` keeps it: `state_dict()` holds (lane, rows of it that were
yielded), JSON of fifty bytes. To resume is to read the current lane again up to there: exact, at
the price of reading part of a lane twice.

Rejected: `IterableDataset.shuffle`, whose buffer is not in its state (55 of 400 rows were lost on
resume), and `interleave_datasets`, which hands every row through a thread.

Lanes are the shards of the dataset: ranks and DataLoader workers share them out, and no row is read
by two. There are as many as the source with the fewest files has. If ranks don't divide them, each
rank reads everything and keeps every n-th row. With DataLoader workers the positions live in the
workers: resume there through torchdata's StatefulDataLoader, or in steps of whole epochs.

Memory: one record and one window a source; WINDOW_CHARACTERS bounds a window of long articles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from wikigpt.corpus.articles import Article
from wikigpt.corpus.reading import (
    EVERYTHING,
    Reading,
    Rejected,
    Rejects,
    find_duplicates,
    read_articles,
    split_of,
)
from wikigpt.errors import UserError

__all__ = [
    "Order", "Reading", "Rejected", "Rejects", "Source", "article_stream",
    "find_duplicates", "read_articles", "split_of",
]  # fmt: skip

WINDOW_CHARACTERS = 2**25


@dataclass(frozen=True)
class Source:
    """Files that belong together, such as one dump in one language."""

    name: str
    files: Sequence[str | Path]
    weight: float | None = None
    """Its share of the rows, relative to the other sources' weights."""
    reading: Reading = EVERYTHING


@dataclass(frozen=True)
class Order:
    """How rows are chosen and ordered; with the files it decides everything."""

    seed: int | None = None
    """None leaves files and articles in their order; a number shuffles both."""
    epoch: int = 0
    """Another epoch is another order of the same rows."""
    window: int = 4096
    """Articles that are shuffled among each other."""
    until: Literal["all", "first"] = "all"
    """`all`: every row once an epoch, so a small source may end early. `first`: a lane ends with
    the first of its sources, so the weights hold to the end and some rows are left out."""
    split: Literal["train", "validation"] | None = None
    """The side of the split; None gives both."""
    validation_fraction: float = 0.01
    max_bad_share: float = 0.05
    """Above this share of bad records in a lane's source it stops."""

    def __post_init__(self) -> None:
        wrong = {
            "seed": self.seed is not None and self.seed < 0,
            "window": self.window < 1,
            "until": self.until not in ("all", "first"),
            "split": self.split not in ("train", "validation", None),
            "validation_fraction": not 0 <= self.validation_fraction <= 1,
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise UserError(
                f"Order has no {name}={getattr(self, name)!r}; its docstring says what."
            )


def article_stream(
    sources: Sequence[Source],
    order: Order = Order(),
    temperature: float | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> IterableDataset:
    """One stream of rows `id, title, text, lang, source` over the files of all sources.

    Args:
        temperature: weights from sizes: a source of n bytes on disk gets n^(1/temperature). 1 mixes
            in proportion, larger values give small sources more (Arivazhagan et al., 2019, use 5).
            Without it and without weights it is 1.

    Raises:
        UserError: no files, no such file, or weights that can't be weights.
    """
    sources = [replace(source, files=tuple(map(Path, source.files))) for source in sources]
    weights = _weights(sources, temperature)
    n_lanes = min(len(source.files) for source in sources)
    lanes = [
        tuple(
            replace(source, files=_dealt(source.files, s, lane, n_lanes, order), weight=weight)
            for s, (source, weight) in enumerate(zip(sources, weights, strict=True))
        )
        for lane in range(n_lanes)
    ]
    # Without `features`: every value is a string anyway, and checking it takes a fifth of the time.
    stream = IterableDataset.from_generator(
        _read_lanes,
        # Lists are what `datasets` shares out; they must be equally long.
        gen_kwargs={"lanes": lanes, "numbers": list(range(n_lanes)), "order": order},
    )
    return split_dataset_by_node(stream, rank, world_size) if world_size > 1 else stream


def _weights(sources: Sequence[Source], temperature: float | None) -> list[float]:
    """The sources' shares of the rows; they add up to 1."""
    if not sources:
        raise UserError("There is no source to stream from; give at least one.")
    for source in sources:
        if not source.files:
            raise UserError(f"The source {source.name!r} has no files.")
        for path in source.files:
            if not path.is_file():
                raise UserError(f"There is no corpus file {path}.")
    given = [source.weight for source in sources if source.weight is not None]
    if given and (temperature is not None or len(given) < len(sources)):
        raise UserError("Give every source a weight and no temperature, or no source a weight.")
    if temperature is not None and not temperature > 0:
        raise UserError(f"The temperature must be above 0, not {temperature}.")
    if not given:
        sizes = [sum(path.stat().st_size for path in source.files) for source in sources]
        given = [max(size, 1) ** (1 / (temperature or 1)) for size in sizes]
    if not all(0 < weight < float("inf") for weight in given):
        raise UserError("Weights must be above 0; leave out a source that is not wanted.")
    return [weight / sum(given) for weight in given]


def _rng(order: Order, *key: int) -> np.random.Generator:
    """A generator of its own for every purpose: nothing is carried along, nothing to be saved."""
    seeds = np.random.SeedSequence([order.seed or 0, order.epoch, *key])
    return np.random.Generator(np.random.Philox(seeds))


def _dealt(
    files: Sequence[Path], source: int, lane: int, n_lanes: int, order: Order
) -> tuple[Path, ...]:
    if order.seed is not None:
        files = [files[i] for i in _rng(order, 0, source).permutation(len(files))]
    return tuple(files[lane::n_lanes])


def _read_lanes(
    lanes: list[tuple[Source, ...]], numbers: list[int], order: Order
) -> Iterator[dict[str, Any]]:
    for lane, number in zip(lanes, numbers, strict=True):
        streams = [
            _shuffled(_read_source(source, order), order, number, s)
            for s, source in enumerate(lane)
        ]
        weights = np.array([source.weight for source in lane])
        for s, article in _mixed(streams, weights, order, number):
            yield {
                "id": article.id, "title": article.title, "text": article.text,
                "lang": article.lang, "source": lane[s].name,
            }  # fmt: skip


def _read_source(source: Source, order: Order) -> Iterator[Article]:
    articles = read_articles(source.files, Rejects(order.max_bad_share), source.reading)
    for article in articles:
        if not order.split or order.split == split_of(article.id, order.validation_fraction):
            yield article


def _shuffled(
    articles: Iterator[Article], order: Order, lane: int, source: int
) -> Iterator[Article]:
    """Each window of articles in an order of its own."""
    if order.seed is None:
        yield from articles
        return
    number = 0
    while window := _take(articles, order.window):
        for i in _rng(order, 1, lane, source, number).permutation(len(window)):
            yield window[i]
        number += 1


def _take(articles: Iterator[Article], n: int) -> list[Article]:
    window, characters = [], 0
    for article in articles:
        window.append(article)
        characters += len(article.text)
        if len(window) == n or characters > WINDOW_CHARACTERS:
            break
    return window


def _mixed(
    streams: list[Iterator[Article]], weights: np.ndarray, order: Order, lane: int
) -> Iterator[tuple[int, Article]]:
    """(source, article) by weight; an ended source leaves the others their proportions."""
    rng, alive = _rng(order, 2, lane), list(range(len(streams)))
    bounds = np.cumsum(weights)
    while alive:
        if len(alive) == 1:
            yield from ((alive[0], article) for article in streams[alive[0]])
            return
        draw = rng.random() * bounds[-1]
        s = alive[min(int(np.searchsorted(bounds, draw, side="right")), len(alive) - 1)]
        article = next(streams[s], None)
        if article is not None:
            yield s, article
        elif order.until == "first":
            return
        else:
            alive.remove(s)
            bounds = np.cumsum(weights[alive])

"""The floor that counting reaches: an n-gram model over bytes, smoothed after Kneser and Ney.

The probability of a byte after the n - 1 before it is its count there, less a discount, and what
the discounts saved goes to the model that looks one byte less far. That model counts *in how many
contexts* a byte was seen, not how often: after « San Francisc » o is certain, but nothing else ends
that way, so a short context should not expect « Francisco » everywhere (Kneser & Ney, 1995;
interpolated, one discount per order, as in Chen & Goodman, 1999).

Bytes, so that any text has a probability and it stands on one axis with every tokenizer's. Up to 8
of them are the digits of one 64-bit number, so counting is sorting, and numpy does it. Rejected:
three discounts per order (a little better, three times the formulas) and nltk.lm (a dictionary for
every context: gigabytes for a corpus of megabytes).
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np

from wikigpt.errors import UserError
from wikigpt.tokenizers.base import utf8

END = 0xFF
"""Stands before and after every text; UTF-8 never uses it."""


class Counts(NamedTuple):
    """The n-grams of one order, as sorted numbers, and the contexts they begin with."""

    ngrams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    """The sum of the counts after each context."""
    types: np.ndarray
    """How many different bytes were seen after each context."""
    discount: float


class ByteNgram:
    """P(byte | the n - 1 bytes before it); `fit` makes one."""

    def __init__(self, orders: list[Counts]) -> None:
        self.orders = orders

    @classmethod
    def fit(cls, texts: Iterable[str], order: int = 6) -> Self:
        """Count the n-grams of `texts`, in memory: some 100 bytes for each byte of text.

        Raises:
            UserError: no text, or an order that is not 1 to 8.
        """
        if not 1 <= order <= 8:
            raise UserError(f"order is {order}; a byte n-gram can have 1 to 8 bytes.")
        stream, predicted = _stream(texts, order)
        if not predicted.any():
            raise UserError("There is no text to count n-grams in; give at least one.")
        ngrams, counts = np.unique(_windows(stream, order)[predicted], return_counts=True)
        orders = [_counts(ngrams, counts)]
        for n in range(order - 1, 0, -1):
            # Each n-gram once for every different byte that stands before it.
            ngrams, counts = np.unique(ngrams & _mask(n), return_counts=True)
            orders.append(_counts(ngrams, counts))
        return cls(orders[::-1])

    @property
    def order(self) -> int:
        return len(self.orders)

    def nats(self, texts: Iterable[str]) -> float:
        """The cost of all bytes of these texts and of their ends; each text begins anew, and an
        empty one costs nothing."""
        nats, texts = 0.0, iter(texts)
        # Some at a time: it takes about 80 bytes for each of theirs.
        while some := list(itertools.islice(texts, 1000)):
            stream, predicted = _stream(some, self.order)
            nats -= float(np.log(self._probabilities(stream)[predicted]).sum())
        return nats

    def log_probabilities(self, sentences: Sequence[str]) -> list[float]:
        """ln P of each sentence as the beginning of a text, in nats."""
        if not sentences:
            return []
        stream, _ = _stream(sentences, self.order)
        logs = np.log(self._probabilities(stream))
        logs[stream == END] = 0.0  # neither the padding nor the end is charged
        starts = np.cumsum([0] + [len(utf8(text)) + self.order for text in sentences[:-1]])
        return np.add.reduceat(logs, starts).tolist()

    def _probabilities(self, stream: np.ndarray) -> np.ndarray:
        """P of every byte of a stream; from uniform upwards, each order corrects the one below."""
        p = np.full(len(stream), 1 / 256)
        for n, table in enumerate(self.orders, start=1):
            windows = _windows(stream, n)
            seen, at = _find(table.ngrams, windows)
            known, context = _find(table.contexts, windows >> np.uint64(8))
            count = np.where(seen, np.maximum(table.counts[at] - table.discount, 0), 0.0)
            saved = table.discount * table.types[context]
            p = np.where(known, (count + saved * p) / table.totals[context], p)
        return p


def _stream(texts: Iterable[str], order: int) -> tuple[np.ndarray, np.ndarray]:
    """All texts, each after n - 1 ENDs and before one, and which places are predicted."""
    pieces = [bytes([END]) * (order - 1) + utf8(text) + bytes([END]) for text in texts]
    stream = np.frombuffer(b"".join(pieces), np.uint8)
    after_end = np.concatenate(([True], stream[:-1] == END))
    return stream, ~((stream == END) & after_end)


def _windows(stream: np.ndarray, n: int) -> np.ndarray:
    """The n bytes that end at each place, as one number; before the stream lie ENDs."""
    padded = np.concatenate((np.full(n - 1, END, np.uint8), stream))
    number = np.zeros(len(stream), np.uint64)
    for i in range(n):
        number = (number << np.uint64(8)) | padded[i : i + len(stream)]
    return number


def _mask(n: int) -> np.uint64:
    return np.uint64(256**n - 1)


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return table[at] == wanted, at


def _counts(ngrams: np.ndarray, counts: np.ndarray) -> Counts:
    contexts, first, types = np.unique(
        ngrams >> np.uint64(8), return_index=True, return_counts=True
    )
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    # Ney, Essen & Kneser (1994). With nothing seen once there is no estimate, but still the need.
    discount = once / (once + 2 * twice) if once else 0.5
    return Counts(ngrams, counts, contexts, np.add.reduceat(counts, first), types, discount)

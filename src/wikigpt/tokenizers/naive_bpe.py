"""Byte pair encoding, the lesson: count all neighbours, merge the most frequent pair, repeat.

Gage (1994) compressed files like this; Sennrich et al. (2016, arXiv:1508.07909) cut words like
this. The text is counted anew at every merge, so training takes (merges x text) steps: right for
a page, a thousand times too slow for a corpus. `bpe.BPETokenizer` finds the same merges, in the
same order, without counting anything twice.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Self

from wikigpt.errors import UserError
from wikigpt.tokenizers.base import END_OF_TEXT, Tokenizer, utf8
from wikigpt.tokenizers.patterns import named, splitter

# The 256 bytes in the order of `tokenizers`: first those that are a visible Latin-1 character.
# Order matters: of two pairs that are equally frequent, the one with the smaller ids is merged.
VISIBLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
BYTE_ORDER = bytes([*VISIBLE, *sorted(set(range(256)) - set(VISIBLE))])


class NaiveBPETokenizer(Tokenizer):
    """Ids: 0 is end-of-text, then the 256 bytes, then one id a merge."""

    kind = "naive-bpe"
    values = ("pattern", "merges")
    end_of_text_id = 0

    def __init__(self, merges: Iterable[tuple[int, int]], pattern: str = r"[\s\S]+") -> None:
        """`pattern` cuts the text in pieces that no token crosses; by default nothing is cut."""
        self.pattern, self.merges = named(pattern), [(left, right) for left, right in merges]
        self.tokens = [END_OF_TEXT.encode(), *(bytes([byte]) for byte in BYTE_ORDER)]
        for left, right in self.merges:
            self.tokens.append(self.tokens[left] + self.tokens[right])
        self.vocab_size = len(self.tokens)
        self._split = splitter(self.pattern)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: str = r"[\s\S]+") -> Self:
        """
        Raises:
            UserError: `vocab_size` is below 257, or more than the texts support; a lone surrogate.
        """
        if vocab_size < 257:
            raise UserError(
                f"A vocabulary of {vocab_size} tokens is too small: end-of-text and 256 bytes make "
                "257; raise vocab_size."
            )
        tokenizer = cls([], pattern)
        pieces = [ids for text in texts for ids in tokenizer._in_bytes(text)]
        for new_id in range(257, vocab_size):
            counts = Counter(pair for ids in pieces for pair in itertools.pairwise(ids))
            if not counts:
                raise UserError(f"There is nothing left to merge; ask for at most {new_id} tokens.")
            # The most frequent pair; of several the one with the smallest left id, then right id.
            best = min(counts, key=lambda pair: (-counts[pair], pair))
            pieces = [merge(ids, best, new_id) for ids in pieces]
            tokenizer.merges.append(best)
        return cls(tokenizer.merges, pattern)

    def _in_bytes(self, text: str) -> list[list[int]]:
        """The pieces of a text, each as the ids of its bytes."""
        utf8(text)  # which says what no text can hold
        pieces = self._split(text)
        return [[1 + BYTE_ORDER.index(byte) for byte in piece.encode()] for piece in pieces]

    def encode(self, text: str) -> list[int]:
        """Do every merge of the training again, in its order."""
        pieces = self._in_bytes(text)
        for new_id, pair in enumerate(self.merges, start=257):
            pieces = [merge(ids, pair, new_id) for ids in pieces]
        return [i for ids in pieces for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; bytes that are not UTF-8 become U+FFFD."""
        ids = list(ids)
        if wrong := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise UserError(f"Id {wrong[0]} is outside the vocabulary of {self.vocab_size} tokens.")
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", errors="replace")


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`[1, 1, 1, 2], (1, 1), 9` -> `[9, 1, 2]`: from left to right, no overlap."""
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged

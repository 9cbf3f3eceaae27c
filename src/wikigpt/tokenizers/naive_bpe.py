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
from wikigpt.tokenizers.base import END_OF_TEXT, Tokenizer
from wikigpt.tokenizers.patterns import splitter

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
        self.pattern, self.merges = pattern, [(left, right) for left, right in merges]
        self.tokens = [END_OF_TEXT.encode(), *(bytes([byte]) for byte in BYTE_ORDER)]
        for left, right in self.merges:
            self.tokens.append(self.tokens[left] + self.tokens[right])
        self._split = splitter(pattern)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: str = r"[\s\S]+") -> Self:
        tokenizer = cls([], pattern)
        pieces = [tokenizer._bytes(piece) for text in texts for piece in tokenizer._split(text)]
        for new_id in range(257, vocab_size):
            counts = Counter(pair for ids in pieces for pair in itertools.pairwise(ids))
            if not counts:
                raise UserError(f"There is nothing left to merge; ask for at most {new_id} tokens.")
            # The most frequent pair; of several the one with the smallest left id, then right id.
            best = min(counts, key=lambda pair: (-counts[pair], pair))
            pieces = [merge(ids, best, new_id) for ids in pieces]
            tokenizer.merges.append(best)
        return cls(tokenizer.merges, pattern)

    def _bytes(self, piece: str) -> list[int]:
        return [1 + BYTE_ORDER.index(byte) for byte in piece.encode()]

    def encode(self, text: str) -> list[int]:
        """Do every merge of the training again, in its order."""
        pieces = [self._bytes(piece) for piece in self._split(text)]
        for new_id, pair in enumerate(self.merges, start=257):
            pieces = [merge(ids, pair, new_id) for ids in pieces]
        return [i for ids in pieces for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", errors="replace")


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`[1, 1, 1, 2], (1, 1), 9` -> `[9, 1, 2]`: from left to right, no overlap."""
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged

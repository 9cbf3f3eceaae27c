"""Byte pair encoding as it is used: fast, lossless, and the same as `tokenizers` id by id.

The text is cut in pieces by a pattern (patterns.py), pieces become UTF-8 bytes, and bytes are
merged by what training found (bpe_trainer.py). Every string can be encoded, for every byte has a
token. Text that holds the literal `<|endoftext|>` is thirteen characters: no text can forge the
mark between articles.

Rejected: pickled tokenizers, and a save that forgets the split pattern (the ids of a reloaded
tokenizer would differ, with no sign of it).
"""

import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import tiktoken

from wikigpt.errors import UserError
from wikigpt.tokenizers.base import END_OF_TEXT, Tokenizer, lone_surrogate
from wikigpt.tokenizers.bpe_trainer import learn_merges
from wikigpt.tokenizers.counting import count_pieces
from wikigpt.tokenizers.naive_bpe import BYTE_ORDER
from wikigpt.tokenizers.patterns import FRENCH, GPT2, GPT4, SETTLED, named, splitter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NEVER = 2**62  # later than any merge
_LONG_PIECE = 64  # bytes; longer ones are not worth a place in the cache
_CACHED_PIECES = 2**18


class BPETokenizer(Tokenizer):
    """Ids: 0 is end-of-text, then other special tokens, then the 256 bytes, then one a merge.

    A vocabulary from elsewhere may have its special tokens at other places, GPT-2's at the end.
    """

    kind = "bpe"
    values = ("pattern", "special_tokens", "merges")

    def __init__(
        self,
        merges: Iterable[Sequence[int]],
        pattern: str = FRENCH,
        special_tokens: dict[str, int] | None = None,
    ) -> None:
        """
        Args:
            merges: (left id, right id), in the order in which they are done.
            pattern: a name in patterns.PATTERNS or a regular expression.
            special_tokens: token -> id, by default `{"<|endoftext|>": 0}`.

        Raises:
            UserError: merges, pattern or special tokens make no sense.
        """
        self.merges = [(left, right) for left, right in merges]
        self.pattern = named(pattern)
        self.special_tokens = {END_OF_TEXT: 0} if special_tokens is None else dict(special_tokens)
        self.vocab_size = len(self.special_tokens) + 256 + len(self.merges)
        special = {i: token.encode() for token, i in self.special_tokens.items()}
        if END_OF_TEXT not in self.special_tokens:
            raise UserError(f"The special tokens must include {END_OF_TEXT}, which ends articles.")
        if not all(token and token.isascii() for token in self.special_tokens):
            raise UserError("Special tokens are written in ASCII, like <|this|>, and not empty.")
        ordinary = [i for i in range(self.vocab_size) if i not in special]
        if len(special) < len(self.special_tokens) or len(ordinary) != 256 + len(self.merges):
            raise UserError(f"Special tokens need ids of their own, 0 to {self.vocab_size - 1}.")
        spelled = {i: bytes([byte]) for i, byte in zip(ordinary, BYTE_ORDER, strict=False)}
        self._new_id: dict[tuple[int, int], int] = {}
        for new_id, pair in zip(ordinary[256:], self.merges, strict=True):
            if not (pair[0] in spelled and pair[1] in spelled) or pair in self._new_id:
                raise UserError(f"Merge {new_id} is of {pair}, which are no tokens before it.")
            spelled[new_id] = spelled[pair[0]] + spelled[pair[1]]
            self._new_id[pair] = new_id
        if twice := set(special.values()) & set(spelled.values()):
            raise UserError(
                f"The special token {twice.pop().decode()!r} is an ordinary token too, merged from "
                "the text; give it a name that no text holds."
            )
        self.tokens = [special[i] if i in special else spelled[i] for i in range(self.vocab_size)]
        """The bytes of each id."""
        self._byte_ids = [ordinary[BYTE_ORDER.index(byte)] for byte in range(256)]
        self._split = splitter(self.pattern)
        self._pieces = _Pieces(self._merge)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        pattern: str = FRENCH,
        special_tokens: Sequence[str] = (),
        processes: int | None = None,
    ) -> Self:
        """Learn a vocabulary of `vocab_size` tokens: the same as `tokenizers`' BpeTrainer does.

        Args:
            texts: read once and not kept; memory grows with the number of different words.
            special_tokens: more of them, beside `<|endoftext|>`.
            processes: how many count words, where there is much text; by default one a core.

        Raises:
            UserError: `texts` don't hold enough different words for so many tokens, `vocab_size`
                leaves no room for the bytes, a text holds a lone surrogate.
        """
        names = dict.fromkeys((END_OF_TEXT, *special_tokens))
        special = {token: i for i, token in enumerate(names)}
        first_merge = len(special) + 256
        if vocab_size < first_merge:
            raise UserError(
                f"A vocabulary of {vocab_size} tokens is too small: {len(special)} special tokens "
                f"and 256 bytes make {first_merge}; raise vocab_size."
            )
        bare = cls([], pattern, special)
        try:
            pieces = {
                piece.encode(): count
                for piece, count in count_pieces(texts, bare.pattern, processes).items()
            }
        except UnicodeEncodeError as error:
            raise lone_surrogate(error) from None
        wanted = vocab_size - first_merge
        merges = learn_merges(pieces, bare._byte_ids, first_merge, wanted)
        if len(merges) < wanted:
            largest = first_merge + len(merges)
            raise UserError(
                f"This text has words for a vocabulary of {largest} tokens at most, not "
                f"{vocab_size}; lower vocab_size or train on more text."
            )
        return cls(merges, pattern, special)

    @property
    def end_of_text_id(self) -> int:
        return self.special_tokens[END_OF_TEXT]

    def special_id(self, token: str) -> int:
        """The id of a special token, to put between encoded texts; no text encodes to it."""
        if token not in self.special_tokens:
            raise UserError(
                f"{token!r} is not a special token of this vocabulary; it has "
                f"{', '.join(map(repr, self.special_tokens))}."
            )
        return self.special_tokens[token]

    def encode(self, text: str) -> list[int]:
        """Text -> ids; special tokens that are written out in it are ordinary characters.

        Raises:
            UserError: a lone surrogate, half a character that no text can hold.
        """
        try:
            ids = map(self._pieces.__getitem__, self._split(text))
            return list(chain.from_iterable(ids))
        except UnicodeEncodeError as error:
            raise lone_surrogate(error) from None

    def _merge(self, piece: bytes) -> list[int]:
        """One piece -> ids: do the earliest merge that is possible, the leftmost first, repeat."""
        ids = [self._byte_ids[byte] for byte in piece]
        new_id = self._new_id.get  # ids grow in the order of training, so an id is a rank
        if len(ids) > _LONG_PIECE:
            return _merge_long(ids, new_id)
        ranks = [new_id(pair, _NEVER) for pair in pairwise(ids)]
        while ranks and (new := min(ranks)) < _NEVER:
            i = ranks.index(new)
            ids[i : i + 2] = [new]
            del ranks[i]
            if i:
                ranks[i - 1] = new_id((ids[i - 1], new), _NEVER)
            if i < len(ranks):
                ranks[i] = new_id((new, ids[i + 1]), _NEVER)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text. Bytes that are not UTF-8 become U+FFFD (a model can write such)."""
        ids = list(ids)
        if wrong := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise UserError(f"Id {wrong[0]} is outside the vocabulary of {self.vocab_size} tokens.")
        return b"".join([self.tokens[i] for i in ids]).decode("utf-8", errors="replace")

    def unseen_in(self, text: str) -> str:
        """Nothing: every character is made of bytes, and every byte has a token."""
        return ""

    def bulk_encoder(self) -> Callable[[str], list[int]]:
        """The fastest function that gives the same ids as `encode`: `tiktoken`, where it is exact.

        tiktoken merges any two neighbours that together are a token, we only pairs that training
        merged. For a trained vocabulary that is the same: around a token no border is crossed
        before it is made, so inside it the same merges happen as in its bytes alone, and the two
        parts that are left when it is made are always the same two. Whether a vocabulary from
        elsewhere is like that, `_is_canonical` asks of every token.
        """
        if self.pattern not in (GPT2, GPT4, FRENCH) or not self._is_canonical():
            return self.encode
        special = set(self.special_tokens.values())
        ranks = {token: i for i, token in enumerate(self.tokens) if i not in special}
        twin = tiktoken.Encoding(
            "wikigpt", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens={}
        )
        # Rust's engine reads \p{L} by a Unicode of its own, and gives up on long runs of spaces.
        uncertain = re.compile(f"[^{SETTLED}]" + r"|\s{1000}").search
        certain = self.pattern == FRENCH

        def encode(text: str) -> list[int]:
            if not certain and uncertain(text):
                return self.encode(text)
            try:
                text.encode()  # tiktoken would replace a lone surrogate and say nothing
            except UnicodeEncodeError as error:
                raise lone_surrogate(error) from None
            return twin.encode_ordinary(text)

        return encode

    def _is_canonical(self) -> bool:
        """Does every token, encoded from its bytes alone, become itself?"""
        special = set(self.special_tokens.values())
        ordinary = {token: i for i, token in enumerate(self.tokens) if i not in special}
        return len(ordinary) == 256 + len(self.merges) and all(
            self._merge(token) == [i] for token, i in ordinary.items()
        )

    def to_hub(self, model_max_length: int | None = None) -> "PreTrainedTokenizerFast":
        """The twin: a tokenizer of the Hugging Face ecosystem that gives the same ids.

        `to_hub().save_pretrained(folder)` writes a `tokenizer.json` that AutoTokenizer loads.
        """
        from wikigpt.tokenizers.export import bpe_to_hub  # transformers takes a while to import

        return bpe_to_hub(
            self.tokens, self.merges, self.pattern, self.special_tokens, model_max_length
        )

    @classmethod
    def from_hub(cls, path: str | Path) -> Self:
        """A byte-level BPE `tokenizer.json` (or the folder with it), of ours or GPT-2's, as ours.

        Special tokens that are written out in a text stay ordinary characters here.

        Raises:
            UserError: the file is missing or damaged, or its ids can't be had from a BPETokenizer.
        """
        from wikigpt.tokenizers.export import read_bpe

        return cls(*read_bpe(Path(path)))


class _Pieces(dict[str, list[int]]):
    """Ids of the pieces met so far: a text has few different words, so most are found here."""

    def __init__(self, merge: Callable[[bytes], list[int]]) -> None:
        super().__init__()
        self._merge = merge

    def __missing__(self, piece: str) -> list[int]:
        ids = self._merge(piece.encode())
        if len(piece) <= _LONG_PIECE:
            if len(self) >= _CACHED_PIECES:
                self.clear()  # the frequent ones are soon back
            self[piece] = ids
        return ids


def _merge_long(ids: list[int], new_id: Callable) -> list[int]:
    """The same for a piece of any length, such as a line of dashes, in n log n steps."""
    ids = [*ids, -1]
    after, before = list(range(1, len(ids) + 1)), list(range(-1, len(ids)))
    queue = [(new, i) for i, pair in enumerate(pairwise(ids)) if (new := new_id(pair)) is not None]
    heapq.heapify(queue)
    while queue:
        new, i = heapq.heappop(queue)
        j = after[i]
        if ids[i] < 0 or ids[j] < 0 or new_id((ids[i], ids[j])) != new:
            continue  # one of the two was merged with another since
        ids[i], ids[j] = new, -1
        after[i] = k = after[j]
        before[k] = i
        for start, pair in ((before[i], (ids[before[i]], new)), (i, (new, ids[k]))):
            if (later := new_id(pair)) is not None:
                heapq.heappush(queue, (later, start))
    return [i for i in ids if i >= 0]

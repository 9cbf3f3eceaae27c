"""Raw files -> blocks on the fly: no shards, the compressed files stay the only copy on disk.

The tokens are one endless stream, epoch after epoch, each in an order of its own,

    <|endoftext|> document <|endoftext|> document <|endoftext|> document ...

cut into blocks of `block_size` as in shards.py. The last block of an epoch is filled up with the
next one, so nothing is dropped and nothing padded: every token of every document, and every
end-of-text, is a target exactly once an epoch.

Where the next block begins is a small state: the epoch, the rows of `article_stream` before the
document at hand, and the place in that document. To resume is to tokenise that document again, and
for `article_stream` to read its lane, mostly one file, again up to there: about a second of CPU
time for 100 MB of JSON, 1.3 where it is gzipped. Rejected: skipping those records without cleaning
them. Whether a record becomes an article, and which window it is shuffled in, is known only after
cleaning, so positions would have to be kept through four modules, to save seconds.

Memory, beyond what `article_stream` holds: one document's tokens and the blocks that are asked for.

Rejected: saving the tokens that are waiting (a document may be megabytes, and they would have to be
saved with every checkpoint), and shuffling blocks (another buffer to restore; articles are shuffled
already). So a batch holds neighbouring blocks, often of one article, where shards.py and sampler.py
draw from the whole corpus: who has the disk takes those.
"""

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from wikigpt.corpus.stream import Order, Source, article_stream
from wikigpt.errors import UserError


@dataclass(frozen=True)
class _Document:
    """A tokenised article and what it takes to come back to it."""

    epoch: int
    rows: dict[str, Any]
    """The article stream's state before this article."""
    ids: np.ndarray
    """End-of-text, then the text."""
    checksum: int


class StreamedBlocks:
    """An endless iterator of (ids_T, targets_T), int64, that knows where it is."""

    def __init__(
        self, sources: Sequence[Source], order: Order, tokenizer: Any, block_size: int
    ) -> None:
        """
        Args:
            order: of the first epoch; those after it count on from `order.epoch`.

        Raises:
            UserError: as `article_stream`; and from the iteration, if no article is left to train
                on.
        """
        article_stream(sources, order)  # wrong files and weights are told now
        self.sources, self.order = list(sources), order
        self.tokenizer, self.block_size = tokenizer, block_size
        self._made_of = {
            "corpus": _fingerprint(self.sources, order),
            "tokenizer": tokenizer.fingerprint,
            "block size": block_size,
        }
        self._go_to({"epoch": order.epoch, "rows": None, "offset": 0, "checksum": None})

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        ids_BT, targets_BT = self.batch(1)
        return ids_BT[0], targets_BT[0]

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The next `size` blocks -> ids_BT, targets_BT (int64)."""
        blocks = self.peek(size)
        self._offset += size * self.block_size
        while self._offset >= len(self._waiting[0].ids):
            self._offset -= len(self._waiting.popleft().ids)
        return blocks

    def peek(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What `batch` is about to give; it stays the next."""
        try:
            tokens = torch.from_numpy(self._tokens(size * self.block_size + 1))
        except BaseException:
            # An error ends a generator for good; the next call starts over, at the same block.
            self._go_to(self._position())
            raise
        shape = (size, self.block_size)
        return tokens[:-1].view(shape), tokens[1:].view(shape)

    def state_dict(self) -> dict[str, Any]:
        """Where the next block begins: JSON of some hundred bytes, whatever the corpus."""
        return {"made_of": self._made_of, **self._position()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with exactly the block that was next when `state` was taken.

        Raises:
            UserError: it was taken on another corpus, tokenizer or block size.
        """
        made_of = state.get("made_of", {})
        if changed := [name for name, of in self._made_of.items() if made_of.get(name) != of]:
            raise UserError(
                f"This position in the stream belongs to another {' and '.join(changed)}, where it "
                "would mean other text; go on with the same, or start afresh."
            )
        self._go_to({name: value for name, value in state.items() if name != "made_of"})

    def _position(self) -> dict[str, Any]:
        if not self._waiting:
            return self._start
        first = self._waiting[0]
        return {
            "epoch": first.epoch, "rows": first.rows,
            "offset": self._offset, "checksum": first.checksum,
        }  # fmt: skip

    def _go_to(self, position: dict[str, Any]) -> None:
        self._start = position
        self._documents: Iterator[_Document] | None = None  # opened when the first block is asked
        self._waiting: deque[_Document] = deque()
        self._offset: int = position["offset"]

    def _tokens(self, missing: int) -> np.ndarray:
        """So many tokens of the stream from where the next block begins."""
        parts, start, number = [], self._offset, 0
        while missing:
            if number == len(self._waiting):
                self._waiting.append(self._next_document())
            part = self._waiting[number].ids[start : start + missing]
            parts.append(part)
            missing, start, number = missing - len(part), 0, number + 1
        return np.concatenate(parts).astype(np.int64)

    def _next_document(self) -> _Document:
        if self._documents is not None:
            return next(self._documents)
        self._documents = self._read(self._start["epoch"], self._start["rows"])
        document = next(self._documents)
        if self._start["checksum"] not in (None, document.checksum):
            raise UserError(
                "The corpus is not what it was when this position was saved: at the place to go on "
                "from there is another article. Get the files again, or start afresh."
            )
        return document

    def _read(self, epoch: int, rows: dict[str, Any] | None) -> Iterator[_Document]:
        """All documents from a position on, without an end."""
        encode, end_of_text = _encoder(self.tokenizer), self.tokenizer.end_of_text_id
        while True:
            articles = article_stream(self.sources, replace(self.order, epoch=epoch))
            if rows is None:
                rows = articles.state_dict()
            else:
                articles.load_state_dict(rows)
            empty = True
            for article in articles:
                ids = encode(article["text"])
                ids = np.concatenate(([end_of_text], ids), dtype=np.uint32, casting="unsafe")
                yield _Document(epoch, rows, ids, zlib.crc32(ids))
                rows, empty = articles.state_dict(), False
            if empty:
                raise UserError(self._nothing())
            epoch, rows = epoch + 1, None

    def _nothing(self) -> str:
        names = ", ".join(Path(file).name for source in self.sources for file in source.files)
        return (
            f"There is no article to train on in {names}; if there should be, lower "
            "corpus.min_characters or corpus.validation_fraction."
        )


def _encoder(tokenizer: Any) -> Callable[[str], Iterable[int]]:
    """The tokenizer's quickest way from a text to its ids."""
    return tokenizer.bulk_encoder() if hasattr(tokenizer, "bulk_encoder") else tokenizer.encode


def _fingerprint(sources: Sequence[Source], order: Order) -> str:
    """A hash of what decides the articles and their order, wherever the files lie."""
    settings = {k: v for k, v in asdict(order).items() if k not in ("epoch", "max_bad_share")}
    decides: list[Any] = [settings]
    for source in sources:
        reading = source.reading
        files = [(Path(file).name, Path(file).stat().st_size) for file in source.files]
        decides += [source.name, source.weight, reading.language, reading.min_characters, files]
        if part := reading.part:
            firsts = [part.first.get(str(Path(file))) for file in source.files]
            decides += [part.count, part.total, firsts]
        if reading.duplicates:
            decides += [list(reading.duplicates.of(Path(file))) for file in source.files]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]

"""Tokenise once: articles -> .bin files of token ids and a manifest, read back as one long array.

The layout of a split is one stream of tokens,

    <|endoftext|> document <|endoftext|> document <|endoftext|> ... document <|endoftext|>

cut into blocks of `block_size` tokens. The leading end-of-text makes the first character of the
first document a prediction like any other, so every token of every document, and every
end-of-text after it, is a target exactly once an epoch. The last block is short; it is padded with
targets that the loss ignores (-100), not dropped.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from wikigpt.config import relative
from wikigpt.errors import UserError
from wikigpt.files import read_json, sha256, write_json

SHARD_TOKENS = 100_000_000
IGNORE = -100


@dataclass
class Counts:
    """What a split holds; `tokens` leaves out the leading end-of-text, which is never a target."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    characters: int = 0


class ShardWriter:
    """Writes one split, a document at a time: `<split>_00000.bin`, `<split>_00001.bin`, …"""

    def __init__(
        self, folder: Path, split: str, tokenizer: Any, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.split, self.tokenizer = folder, split, tokenizer
        self.shard_tokens = shard_tokens
        self.dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
        self.counts = Counts()
        self.files: list[Path] = []
        self._file: BinaryIO | None = None
        self._room = 0
        self._write([tokenizer.end_of_text_id])

    def add(self, text: str) -> None:
        ids = self.tokenizer.encode(text)
        ids.append(self.tokenizer.end_of_text_id)
        self._write(ids)
        self.counts.documents += 1
        self.counts.tokens += len(ids)
        self.counts.bytes += len(text.encode())
        self.counts.characters += len(text)

    def _write(self, ids: list[int]) -> None:
        array = np.asarray(ids, dtype=self.dtype)
        while len(array):
            if not self._room:
                self._next_file()
            head, array = array[: self._room], array[self._room :]
            self._file.write(head.tobytes())
            self._room -= len(head)

    def _next_file(self) -> None:
        self._finish_file()
        self.files.append(self.folder / f"{self.split}_{len(self.files):05d}.bin")
        self._file = self.files[-1].open("wb")
        self._room = self.shard_tokens

    def _finish_file(self) -> None:
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def close(self) -> dict[str, Any]:
        """Finish the files; returns the split's entry in the manifest."""
        self._finish_file()
        files = [
            {"name": f.name, "bytes": f.stat().st_size, "sha256": sha256(f)} for f in self.files
        ]
        return {"dtype": self.dtype.name, "files": files} | vars(self.counts)


def write_shards(
    folder: Path,
    tokenizer: Any,
    documents: Iterable[tuple[str, str]],
    about: dict[str, Any],
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Tokenise (split, text) pairs into `folder`; the manifest is written last and returned.

    Args:
        about: what else the manifest shall say, such as the hashes of the source files.
    """
    writers = {s: ShardWriter(folder, s, tokenizer, shard_tokens) for s in ("train", "validation")}
    for split, text in documents:
        writers[split].add(text)
    manifest = about | {
        "tokenizer": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "splits": {split: writer.close() for split, writer in writers.items()},
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


class TokenBlocks:
    """One split as a list of (input, target) blocks, memory-mapped from the shards."""

    def __init__(self, folder: Path, split: str, tokenizer: Any, block_size: int) -> None:
        """
        Raises:
            UserError: no shards there, written with another tokenizer, damaged, or too short.
        """
        if not (folder / "manifest.json").is_file():
            raise UserError(f"There are no token shards in {relative(folder)}; prepare them first.")
        manifest = read_json(folder / "manifest.json")
        if manifest["tokenizer"] != tokenizer.fingerprint:
            raise UserError(
                f"The token shards in {relative(folder)} were written with another tokenizer; "
                "prepare the corpus again with this one."
            )
        entry = manifest["splits"][split]
        self.counts = Counts(**{f.name: entry[f.name] for f in fields(Counts)})
        self.block_size = block_size
        self._pad_id = tokenizer.end_of_text_id
        self._shards = []
        for file in entry["files"]:
            path = folder / file["name"]
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise UserError(
                    f"{relative(path)} is missing or damaged; delete {relative(folder)} and "
                    "prepare the corpus again."
                )
            self._shards.append(np.memmap(path, dtype=np.dtype(entry["dtype"]), mode="r"))
        # Where each shard begins in the stream, and where the stream ends.
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return -(-self.counts.tokens // self.block_size)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop of the stream, across shard borders, as int64."""
        stop = min(stop, int(self._starts[-1]))
        parts = []
        for shard, first in zip(self._shards, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(shard))
            if low < high:
                parts.append(shard[low:high])
        return np.concatenate(parts).astype(np.int64)

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Blocks by number -> ids_BT, targets_BT (int64); a target of -100 is padding."""
        indices = list(indices)
        ids_BT = np.full((len(indices), self.block_size), self._pad_id, dtype=np.int64)
        targets_BT = np.full_like(ids_BT, IGNORE)
        for row, index in enumerate(indices):
            start = int(index) * self.block_size
            window = self.tokens(start, start + self.block_size + 1)
            n = len(window) - 1
            ids_BT[row, :n], targets_BT[row, :n] = window[:-1], window[1:]
        return torch.from_numpy(ids_BT), torch.from_numpy(targets_BT)

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All blocks in order, each once: how a split is evaluated."""
        for start in range(0, len(self), batch_size):
            yield self.batch(range(start, min(start + batch_size, len(self))))

"""All parts of a corpus and a manifest, read back as one long array.

The layout of a split is one stream of tokens,

    <|endoftext|> document <|endoftext|> document <|endoftext|> ... document <|endoftext|>

cut into blocks of `block_size` tokens. The leading end-of-text makes the first character of the
first document a prediction like any other, so every token of every document, and every
end-of-text after it, is a target exactly once an epoch. The last block is short; it is padded with
targets that the loss ignores (-100), not dropped.

On disk the stream is the parts' files one after another (parts.py), in the order of the raw files,
and blocks run across their borders. The leading end-of-text is in none of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wikigpt.blocks.parts import SPLITS, token_dtype
from wikigpt.config import relative
from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.corpus.reading import Rejects
from wikigpt.errors import UserError
from wikigpt.files import read_json, write_json

IGNORE = -100
# A mapped file holds a descriptor, and macOS gives a process 256 of them.
FILES_OPEN = 64


@dataclass
class Counts:
    """What a split holds; `tokens` leaves out the leading end-of-text, which is never a target."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    characters: int = 0


def merge_parts(
    folder: Path, notes: Sequence[dict[str, Any]], tokenizer: Any, about: dict[str, Any]
) -> dict[str, Any]:
    """Make one corpus of the parts in `folder`; the manifest is written last and returned.

    Args:
        notes: of all parts, in the order of the stream.
        about: what else the manifest shall say, such as the language.

    Raises:
        UserError: the parts together hold too large a share of bad records.
    """
    rejects = Rejects(records=sum(note["records"] for note in notes))
    for note in notes:
        if note["rejected_records"]:
            rejects.load(folder / f"{note['part']}.rejected.jsonl")
    rejects.check()
    if rejects.rejected:
        rejects.save(folder / "rejected.jsonl")
    reports = (CleaningReport.from_dict(note["cleaning"]) for note in notes)
    manifest = about | {
        "source_files": [note["source"] for note in notes],
        "records": rejects.records,
        "rejected_records": len(rejects.rejected),
        "cleaning": asdict(CleaningReport.merged(reports)),
    }
    return write_manifest(folder, [note["splits"] for note in notes], tokenizer, manifest)


def write_manifest(
    folder: Path, parts: Sequence[dict[str, Any]], tokenizer: Any, about: dict[str, Any]
) -> dict[str, Any]:
    """Lay what `write_documents` wrote end to end."""
    splits = {}
    for split in SPLITS:
        entries = [part[split] for part in parts]
        splits[split] = {
            "dtype": token_dtype(tokenizer).name,
            "files": [entry["file"] for entry in entries if entry["file"]],
        } | {f.name: sum(entry[f.name] for entry in entries) for f in fields(Counts)}
    manifest = about | {
        "tokenizer": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "splits": splits,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


class TokenBlocks:
    """One split as a list of (input, target) blocks, memory-mapped from the parts' files."""

    def __init__(self, folder: Path, split: str, tokenizer: Any, block_size: int) -> None:
        """
        Raises:
            UserError: no shards there, written with another tokenizer, damaged, or of a split whose
                tokens were only counted.
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
        self._end_of_text_id = tokenizer.end_of_text_id
        self._dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        self._paths = [folder / file["name"] for file in entry["files"]]
        self._open: dict[int, np.ndarray] = {}
        for path, file in zip(self._paths, entry["files"], strict=True):
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise UserError(
                    f"{relative(path)} is missing or damaged; delete {relative(folder)} and "
                    "prepare the corpus again."
                )
        # Where each file begins in the stream, after the leading end-of-text, and where it ends.
        sizes = [file["bytes"] // self._dtype.itemsize for file in entry["files"]]
        self._starts = np.cumsum([1, *sizes])
        if self._starts[-1] != 1 + self.counts.tokens:
            raise UserError(
                f"{relative(folder)} does not hold the {split} tokens, since the corpus was "
                "prepared with blocks=streaming; prepare it with blocks=shards."
            )

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself; a map that is sent is sent in full.
        return self.__dict__ | {"_open": {}}

    def __len__(self) -> int:
        return -(-self.counts.tokens // self.block_size)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Tokens start..stop of the stream, across the borders of files, as int64."""
        stop = min(stop, int(self._starts[-1]))
        pieces = [np.array([self._end_of_text_id], dtype=np.int64)[start:stop]]
        place = max(start, 1)
        i = int(np.searchsorted(self._starts, place, side="right")) - 1
        while place < stop:
            first, last = int(self._starts[i]), min(stop, int(self._starts[i + 1]))
            if place < last:
                pieces.append(self._file(i)[place - first : last - first])
            place, i = last, i + 1
        return np.concatenate(pieces).astype(np.int64, copy=False)

    def _file(self, i: int) -> np.ndarray:
        """File `i`, mapped; of those that are open, the one least lately used is closed."""
        file = self._open.pop(i, None)
        if file is None:
            file = np.memmap(self._paths[i], dtype=self._dtype, mode="r")
        self._open[i] = file
        if len(self._open) > FILES_OPEN:
            del self._open[next(iter(self._open))]
        return file

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Blocks by number -> ids_BT, targets_BT (int64); a target of -100 is padding."""
        indices = list(indices)
        ids_BT = np.full((len(indices), self.block_size), self._end_of_text_id, dtype=np.int64)
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

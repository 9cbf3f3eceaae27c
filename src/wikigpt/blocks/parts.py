"""One raw file -> one part: its tokens, split in two, and a note that says they are complete.

A part is a pure function of its job, so parts can be made anywhere, in any order and by any number
of processes, and one that is there need not be made again. The note, `00003.json`, is written last:
without it a part does not exist. It names what the part was made of, so that a part of another
file, tokenizer or reading is recognised and replaced.

    00003.train.bin        document <|endoftext|> document <|endoftext|> ... document <|endoftext|>
    00003.validation.bin   the same; which articles is decided by a hash of their ids
    00003.rejected.jsonl   the records that were bad, if any
    00003.json             what it was made of, and counts

Rejected: one process that reads every file and starts over when it is interrupted, which costs a
night on a whole Wikipedia; parts within a file, which would need an index of every file.

Memory: one article, its tokens and the list of bad records, however large the file is. Nothing here
imports torch, which would cost every worker 200 MB.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.corpus.reading import Reading, Rejects, read_articles, split_of
from wikigpt.files import atomic_write, read_json, write_json
from wikigpt.tokenizers import load_tokenizer

# Raise it whenever the same input would give other tokens or another layout.
FORMAT = 6
SPLITS = ("train", "validation")
ENOUGH_RECORDS = 1000
"""One file with fewer can't be bad as a whole; all files together can."""


@dataclass(frozen=True)
class PartJob:
    """What a part is made of; plain data, to be sent to another process or machine."""

    source: Path
    """The raw file."""
    sha256: str
    """Of the raw file."""
    number: int
    """The file's place among all files, from 0; it names the part."""
    folder: Path
    """Where the part is written."""
    tokenizer: Path
    """The folder of the trained tokenizer."""
    reading: Reading
    validation_fraction: float
    kept: tuple[str, ...] = SPLITS
    """The splits whose tokens are written; those of another are only counted."""

    @property
    def name(self) -> str:
        return f"{self.number:05d}"

    def key(self, fingerprint: str) -> str:
        """A hash of all that decides the part's content; its number and folders do not."""
        of_this_file = asdict(replace(self.reading, duplicates=None, part=None))
        if self.reading.duplicates:
            of_this_file["duplicates"] = list(self.reading.duplicates.of(self.source))
        if part := self.reading.part:
            of_this_file["part"] = [part.count, part.total, part.first[str(self.source)]]
        # The name is part of the content: of a text file's article ids, and of what is rejected.
        made_of = [FORMAT, self.source.name, self.sha256, fingerprint, of_this_file]
        text = json.dumps([*made_of, self.validation_fraction, self.kept], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def write_part(job: PartJob) -> dict[str, Any]:
    """Read one raw file and write its part, unless it is there; returns what its note says.

    Raises:
        UserError: the file is missing, damaged or bad as a whole.
    """
    tokenizer = load_tokenizer(job.tokenizer)
    if note := finished(job, tokenizer.fingerprint):
        return note
    # From here on, until it is written anew, the part does not exist.
    (job.folder / f"{job.name}.json").unlink(missing_ok=True)
    rejects, report = Rejects(at_least=ENOUGH_RECORDS), CleaningReport()

    def documents() -> Iterator[tuple[str, str]]:
        for article in read_articles([job.source], rejects, job.reading, report):
            yield split_of(article.id, job.validation_fraction), article.text

    splits = write_documents(job.folder, job.name, tokenizer, documents(), job.kept)
    rejected = job.folder / f"{job.name}.rejected.jsonl"
    if rejects.rejected:
        rejects.save(rejected)
    else:
        rejected.unlink(missing_ok=True)
    note = {
        "part": job.name,
        "key": job.key(tokenizer.fingerprint),
        "source": {"name": job.source.name, "sha256": job.sha256},
        "records": rejects.records,
        "rejected_records": len(rejects.rejected),
        "cleaning": asdict(report),
        "splits": splits,
    }
    write_json(job.folder / f"{job.name}.json", note)
    # As it will be read back: JSON has no whole numbers as keys.
    return json.loads(json.dumps(note))


def finished(job: PartJob, fingerprint: str) -> dict[str, Any] | None:
    """The note of a part that is there, whole, and of this very job; else None.

    Args:
        fingerprint: the tokenizer's.
    """
    try:
        note = read_json(job.folder / f"{job.name}.json")
        whole = all(
            (job.folder / entry["file"]["name"]).stat().st_size == entry["file"]["bytes"]
            for entry in note["splits"].values()
            if entry["file"]
        )
        return note if whole and note["key"] == job.key(fingerprint) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def finished_parts(jobs: Sequence[PartJob]) -> dict[int, dict[str, Any]]:
    """The notes of the parts that need not be made, by their numbers.

    Args:
        jobs: at least one; all of the same tokenizer.
    """
    fingerprint = load_tokenizer(jobs[0].tokenizer).fingerprint
    notes = {job.number: finished(job, fingerprint) for job in jobs}
    return {number: note for number, note in notes.items() if note}


def write_documents(
    folder: Path,
    name: str,
    tokenizer: Any,
    documents: Iterable[tuple[str, str]],
    kept: Sequence[str] = SPLITS,
) -> dict[str, Any]:
    """Tokenise (split, text) pairs into `<name>.<split>.bin`, which appear when they are complete.

    Args:
        kept: the splits to write; another is only counted.

    Returns:
        For each split its file, if there is one, and its counts: documents, tokens, UTF-8 bytes,
        characters.
    """
    encode = getattr(tokenizer, "bulk_encoder", lambda: tokenizer.encode)()
    with ExitStack() as files:
        writers = {
            split: _Writer(files.enter_context(atomic_write(path)), path.name, tokenizer)
            for split in kept
            for path in (folder / f"{name}.{split}.bin",)
        }
        writers |= {split: _Writer(None, None, tokenizer) for split in SPLITS if split not in kept}
        for split, text in documents:
            writers[split].add(text, encode(text))
    return {split: writer.entry() for split, writer in writers.items()}


class _Writer:
    """Appends documents to one file, if any, and counts and hashes on the way."""

    def __init__(self, file: BinaryIO | None, name: str | None, tokenizer: Any) -> None:
        self.file, self.name = file, name
        self.dtype = token_dtype(tokenizer)
        self.end = np.array([tokenizer.end_of_text_id], dtype=self.dtype).tobytes()
        self.hash = hashlib.sha256()
        self.counts = {"documents": 0, "tokens": 0, "bytes": 0, "characters": 0}

    def add(self, text: str, ids: Any) -> None:
        data = np.asarray(ids, dtype=self.dtype).tobytes() + self.end
        if self.file:
            self.file.write(data)
            self.hash.update(data)
        self.counts["documents"] += 1
        self.counts["tokens"] += len(data) // self.dtype.itemsize
        self.counts["bytes"] += len(text.encode())
        self.counts["characters"] += len(text)

    def entry(self) -> dict[str, Any]:
        size = self.counts["tokens"] * self.dtype.itemsize
        file = {"name": self.name, "bytes": size, "sha256": self.hash.hexdigest()}
        return {"file": file if self.file else None} | self.counts


def token_dtype(tokenizer: Any) -> np.dtype:
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")

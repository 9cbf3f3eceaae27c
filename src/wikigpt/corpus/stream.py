"""Raw files -> one stream of articles, and the split into training and validation.

A bad record never stops the stream and never disappears: it is counted and set aside with its file,
its line and the reason. Only a corpus that is bad as a whole stops, and says so.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from wikigpt.corpus.articles import Article, BadRecord, parse_article
from wikigpt.errors import UserError
from wikigpt.files import atomic_write


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that was set aside."""

    file: str
    line: int
    reason: str
    start: str
    """The first characters of the record, to recognise it by."""


@dataclass
class Rejects:
    """What `read_articles` counted and set aside."""

    max_share: float = 0.05
    """Above this share of bad records the corpus as a whole is taken to be bad."""
    records: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def check(self, at_least: int = 1) -> None:
        bad = len(self.rejected)
        if self.records >= at_least and bad > self.max_share * self.records:
            first = self.rejected[0]
            raise UserError(
                f"{bad} of {self.records} records are bad, more than {self.max_share:.0%}, so this "
                f"is probably not the right file; the first: {first.file}, line {first.line}: "
                f"{first.reason}."
            )

    def save(self, path: Path) -> None:
        with atomic_write(path) as file:
            for record in self.rejected:
                file.write(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")


def read_articles(files: Iterable[str | Path], rejects: Rejects | None = None) -> Iterator[Article]:
    """Read JSONL files in order, one line at a time; memory does not grow with the corpus.

    Args:
        files: JSONL files, one record a line.
        rejects: collects the bad records; without it they still count towards the limit.

    Raises:
        UserError: a file is missing, or more than `rejects.max_share` of the records are bad.
    """
    rejects = Rejects() if rejects is None else rejects
    for path in map(Path, files):
        if not path.is_file():
            raise UserError(f"There is no corpus file {path}.")
        # Bytes, so that one line of invalid UTF-8 costs one record, and lines end at \n only.
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                rejects.records += 1
                try:
                    article = parse_article(json.loads(line.decode("utf-8-sig")))
                except (BadRecord, ValueError, RecursionError) as error:
                    start = line[:200].decode("utf-8", errors="replace")
                    rejects.rejected.append(Rejected(path.name, number, _reason(error), start))
                    rejects.check(at_least=1000)
                else:
                    yield article
    rejects.check()


def split_of(article_id: str, validation_fraction: float) -> Literal["train", "validation"]:
    """The side of the split an article is on: a hash of its id, so never a matter of order."""
    digest = hashlib.blake2b(article_id.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "validation" if share < validation_fraction else "train"


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)

"""Raw files -> articles one after another, and the split into training and validation.

A bad record never stops the stream and never disappears: it is counted and set aside with its file,
its line and the reason. Only a corpus that is bad as a whole stops, and says so.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from wikigpt.corpus.articles import Article, parse_article
from wikigpt.corpus.choose import Part
from wikigpt.corpus.cleaning import CleaningReport
from wikigpt.corpus.dedup import Deduplicator, Duplicates
from wikigpt.corpus.records import BadRecord, read_records
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
    at_least: int = 1
    """Fewer records than this are too few to judge by."""
    records: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def check(self, at_least: int = 1) -> None:
        bad, enough = len(self.rejected), max(at_least, self.at_least)
        if self.records >= enough and bad > self.max_share * self.records:
            first = self.rejected[0]
            raise UserError(
                f"{bad} of {self.records} records are bad, more than {self.max_share:.0%}, so this "
                f"is probably not the right file; the first: {first.file}, line {first.line}: "
                f"{first.reason}."
            )

    def load(self, path: Path) -> None:
        """Add the rejected records of a file that `save` wrote; `records` stays as it is."""
        with path.open(encoding="utf-8", newline="\n") as file:
            self.rejected += (Rejected(**json.loads(line)) for line in file)

    def save(self, path: Path) -> None:
        with atomic_write(path) as file:
            for record in self.rejected:
                # A broken record may hold half a surrogate pair; it is shown as `?`.
                line = json.dumps(asdict(record), ensure_ascii=False)
                file.write(line.encode(errors="replace") + b"\n")


@dataclass(frozen=True)
class Reading:
    """What becomes of a raw record on its way."""

    language: str = "fr"
    """The language of records that don't say it."""
    min_characters: int = 0
    """Articles with a shorter text are dropped."""
    duplicates: Duplicates | None = None
    """The records to drop as duplicates, from `find_duplicates`; None keeps them."""
    part: Part | None = None
    """The records to read at all, from `part_of`; None reads every one."""


EVERYTHING = Reading()


def read_articles(
    files: Iterable[str | Path],
    rejects: Rejects | None = None,
    reading: Reading = EVERYTHING,
    report: CleaningReport | None = None,
) -> Iterator[Article]:
    """Read files in order, one record at a time; memory does not grow with the corpus.

    Args:
        files: files of any kind that records.py knows.
        rejects: collects the bad records; without it they still count towards the limit.
        report: counts what was cleaned, dropped and kept.

    Raises:
        UserError: a file is missing or damaged, or more than `rejects.max_share` of the records are
            bad.
    """
    rejects = Rejects() if rejects is None else rejects
    for path in map(Path, files):
        for _, article in _articles(path, rejects, reading, report):
            yield article
    rejects.check()


def find_duplicates(
    files: Iterable[str | Path],
    near: bool = True,
    reading: Reading = EVERYTHING,
    rejects: Rejects | None = None,
) -> Duplicates:
    """Read everything once and note which records repeat an earlier one.

    Args:
        near: near duplicates too, which takes most of the time and of the memory.

    Raises:
        UserError: as `read_articles`.
    """
    rejects = Rejects() if rejects is None else rejects
    seen, found = Deduplicator(near), Duplicates()
    for path in dict.fromkeys(map(Path, files)):  # a file named twice repeats nothing of itself
        found.files[str(path)] = {"exact duplicate": [], "near duplicate": []}
        for number, article in _articles(path, rejects, reading, None):
            if kind := seen.kind_of(article.text):
                found.add(path, number, kind)
    rejects.check()
    return found


def _articles(
    path: Path, rejects: Rejects, reading: Reading, report: CleaningReport | None
) -> Iterator[tuple[int, Article]]:
    """(number of the record, article) of one file."""
    repeats = dict(reading.duplicates.of(path)) if reading.duplicates else {}
    take = reading.part.of(path) if reading.part else None
    for number, record in enumerate(read_records(path, take)):
        if record is None:
            continue
        rejects.records += 1
        try:
            if isinstance(record.value, BadRecord):
                raise record.value
            article = parse_article(record.value, reading.language, report)
        except BadRecord as error:
            rejected = Rejected(record.file, record.line, str(error), record.start)
            rejects.rejected.append(rejected)
            rejects.check(at_least=1000)
            continue
        too_short = len(article.text) < reading.min_characters
        reason = "too short" if too_short else repeats.get(number)
        if report is not None:
            report.drop(reason, article.text) if reason else report.keep(article.text)
        if not reason:
            yield number, article


def split_of(article_id: str, validation_fraction: float) -> Literal["train", "validation"]:
    """The side of the split an article is on: a hash of its id, so never a matter of order."""
    digest = hashlib.blake2b(article_id.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "validation" if share < validation_fraction else "train"

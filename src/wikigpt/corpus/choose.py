"""Which part to take: files of one language, an even part of them, an even part of their records.

Names are matched, never assumed, for the dumps have been published in several layouts:

    frwiki_namespace_0/frwiki_namespace_0_3.jsonl       structured Wikipedia on Kaggle, 2024
    frwiki/data/frwiki_namespace_0_00008.parquet        the same since 2026
    20240916.fr/frwiki_namespace_0.zip                  the same on the Hugging Face hub, 2024
    20231101.fr/train-00000-of-00017.parquet            plain-text Wikipedia on the hub
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count as numbers_from
from pathlib import Path

from wikigpt.corpus.archive import is_safe
from wikigpt.corpus.records import count_records
from wikigpt.errors import UserError

# Namespace 0 holds the articles; other namespaces are talk, categories and the like.
_STRUCTURED = re.compile(
    r"(?:(?P<dump>\d{8})\.[^/]+/)?(?:.*/)?(?P<language>[a-z][a-z0-9_]*?)wiki"
    r"(?:_namespace_0)?(?:_(?P<shard>\d+))?(?:\.jsonl|\.parquet|(?=\.zip))(?:\.gz|\.zst|\.zip)?"
)
_PLAIN = re.compile(
    r"(?P<dump>\d{8})\.(?P<language>[a-z][a-z0-9-]*)/train-(?P<shard>\d+)-of-\d+\.parquet"
)


def files_by_language(names: Iterable[str]) -> dict[str, list[str]]:
    """Language code -> its files in the order of their shards; other files are left out.

    Where a dataset holds a language twice, in two folders, the newer dump is taken, else the folder
    with more files.
    """
    found: dict[str, dict[tuple, list]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        match = _PLAIN.fullmatch(name) or _STRUCTURED.fullmatch(name)
        if match and is_safe(name):
            language = match["language"].replace("_", "-")
            folder = (match["dump"] or "", name.rpartition("/")[0])
            found[language][folder].append((int(match["shard"] or 0), name))
    chosen = {}
    for language, folders in sorted(found.items()):
        newest = max(folders, key=lambda folder: (folder[0], len(folders[folder]), folder[1]))
        chosen[language] = [name for _, name in sorted(folders[newest])]
    return chosen


def files_of(language: str, names: Iterable[str], dataset: str) -> list[str]:
    """The files of one language.

    Raises:
        UserError: there are none; the sentence names the languages there are.
    """
    known = files_by_language(names)
    wanted = language.lower().replace("_", "-")
    if wanted in known:
        return known[wanted]
    if not known:
        raise UserError(
            f"{dataset} has no files named like a Wikipedia dump (frwiki_…, 20231101.fr/…); "
            "check corpus.dataset, or download them yourself and use source=files."
        )
    raise UserError(
        f"{dataset} has no files in the language {language!r}; it has {', '.join(known)}."
    )


def evenly(files: list[str], count: int) -> list[str]:
    """`count` of the files, from the first to the last in even steps; 0 takes all.

    Never the first ones only: dumps are ordered by the age of the page, and the oldest pages are
    the longest. A single file is taken from the middle.
    """
    last = len(files) - 1
    if not 0 < count <= last:
        return list(files)
    if count == 1:
        return [files[last // 2]]
    return [files[(index * last + (count - 1) // 2) // (count - 1)] for index in range(count)]


@dataclass(frozen=True)
class Part:
    """`count` of the `total` records of some files, as evenly as whole numbers allow.

    Records are numbered through all files, from 0. As g goes from 0 to `total`, g * count / total
    passes a whole number `count` times; the record at which it does is taken. So every stretch of
    the files gives its share, to within one record, whoever reads which file.
    """

    count: int
    total: int
    first: dict[str, int]
    """For each file the number of its first record."""

    def of(self, path: Path) -> Iterator[bool]:
        """For each record of a file, in order, whether it is taken; without end.

        Raises:
            UserError: the file is not one of those that were counted.
        """
        first = self.first.get(str(path))
        if first is None:
            raise UserError(f"The records of {path} were not counted; choose the part again.")
        n, of = self.count, self.total
        return ((g + 1) * n // of > g * n // of for g in numbers_from(first))


def part_of(files: Iterable[str | Path], count: int) -> Part | None:
    """An even part of `count` records, or all if there are fewer; 0 takes all, which is None.

    Counting them takes a pass over the files, in which nothing is parsed.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not count:
        return None
    first, total = {}, 0
    for path in map(Path, files):
        first[str(path)] = total
        total += count_records(path)
    return Part(count, total, first)

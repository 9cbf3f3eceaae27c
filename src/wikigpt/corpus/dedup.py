"""Which records repeat an earlier one, exactly or nearly.

It is found out in a pass of its own, before any training, and remembered as record numbers. So a
stream that drops duplicates carries no index: it resumes from one number, its workers and ranks
agree, and the copy that is kept, the first, does not depend on the order of reading. Rejected:
dropping them on the fly, where two workers each keep a copy and every checkpoint holds the index.

Near duplicates: MinHash (Broder, 1997) over shingles of three words, by the `rensa` library, in 8
bands of 12 values: articles whose shingles overlap by 90 % are found 93 times in 100, by 80 % 43
times, by 50 % once in 500. Case, punctuation and the value of numbers don't count, since what is
meant to be caught is text made by bots: communes and asteroids that differ in their figures.

Memory: 9 hashes of 8 bytes an article in tables that are one third to two thirds full: 110 to 220
bytes an article, some 0.3 to 0.6 GB for the whole French Wikipedia (a third more while a table
grows); without near duplicates a ninth of it.
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rensa import RMinHash

from wikigpt.errors import UserError
from wikigpt.files import read_json, write_json

Kind = Literal["exact duplicate", "near duplicate"]
BANDS, ROWS, SHINGLE = 8, 12, 3
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")


class HashSet:
    """A set of 64-bit hashes in one flat array: open addressing, at most two thirds full.

    Python's own set of as many ints takes five times the memory.
    """

    def __init__(self, slots: int = 2**12) -> None:
        self._slots = array("Q", bytes(8 * slots))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> bool:
        """Whether the value is new. 0 marks an empty slot, so it counts as 1."""
        value = value or 1
        slots, mask = self._slots, len(self._slots) - 1
        place = value & mask
        while held := slots[place]:
            if held == value:
                return False
            place = (place + 1) & mask
        slots[place] = value
        self._count += 1
        if 3 * self._count > 2 * len(slots):
            self._grow()
        return True

    def _grow(self) -> None:
        old, self._slots, self._count = self._slots, array("Q", bytes(16 * len(self._slots))), 0
        for value in old:
            if value:
                self.add(value)


class Deduplicator:
    """Tells of one text after another whether it repeats an earlier one."""

    def __init__(self, near: bool = True) -> None:
        self._exact = HashSet()
        self._near = HashSet() if near else None

    def kind_of(self, text: str) -> Kind | None:
        if not self._exact.add(_hash(text.encode())):
            return "exact duplicate"
        if self._near is None:
            return None
        # A list, not a generator: every band must be added, also after one that was there.
        new = [self._near.add(value) for value in band_hashes(text)]
        return None if all(new) else "near duplicate"


def band_hashes(text: str) -> list[int]:
    """The hashes by which near duplicates meet; none for a text without words."""
    words = _NUMBER.sub("0", " ".join(_WORD.findall(text.casefold()))).split(" ")
    shingles = [" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))]
    if shingles == [""]:
        return []
    sketch = RMinHash(num_perm=BANDS * ROWS, seed=1)
    sketch.update(shingles)
    values = array("Q", sketch.digest())
    # The band's number is part of what is hashed: one table serves all bands.
    return [
        _hash(bytes([band]) + values[band * ROWS : (band + 1) * ROWS].tobytes())
        for band in range(BANDS)
    ]


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


@dataclass
class Duplicates:
    """The records to drop: for each file their numbers, from 0, in order."""

    files: dict[str, dict[Kind, list[int]]] = field(default_factory=dict)

    def add(self, path: Path, number: int, kind: Kind) -> None:
        self.files[str(path)][kind].append(number)

    def of(self, path: Path) -> Iterator[tuple[int, Kind]]:
        """(number, kind) of one file's duplicates, in order.

        Raises:
            UserError: the file was not among those that were searched.
        """
        kinds = self.files.get(str(path))
        if kinds is None:
            raise UserError(f"Duplicates were not looked for in {path}; find them again.")
        return iter(sorted((number, kind) for kind in kinds for number in kinds[kind]))

    def subset(self, paths: Iterable[Path]) -> "Duplicates":
        return Duplicates({str(path): self.files[str(path)] for path in paths})

    def save(self, path: Path) -> None:
        write_json(path, self.files)

    @classmethod
    def load(cls, path: Path) -> "Duplicates":
        return cls(read_json(path))

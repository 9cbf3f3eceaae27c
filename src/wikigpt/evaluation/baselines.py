"""Floors: what one gets for the same validation bytes without any neural network.

A bits-per-byte figure means something beside others on the same axis. At the top are uniform bytes,
8.0; then compressors that see the validation text alone; then the same compressors after they have
read training text, which is what a model has had too; and n-grams fitted on it (ngram.py). A model
above the last of these has learnt less than a program that counts which byte follows which.

The bytes are the UTF-8 of the validation articles. The n-grams pay for the end of each article, as
models do. Compressors get them one after another, and nothing marks the ends, so their floors are a
little lower than they would be, never higher (on the French leads by 0.002 to 0.005).

Priming is by subtraction: size(training + validation) - size(training). The three that can be
primed look back as far as `TRAINING_BYTES`; bz2 forgets everything after each 900 kB, so how much
it remembers would be chance, and it is not primed. Rejected: zstd's dictionaries, which hold 100 kB
of samples where its window holds the whole text.

PPMd is a mixture of byte n-grams by Shkarin (2002), the strongest of the classic compressors on
text. Order 16 is where it stops to gain on the French leads: 1.633 bits per byte at order 6, 1.544
at 8, 1.500 at 12, 1.495 at 16.
"""

import bz2
import lzma
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow

from wikigpt.blocks.prepare import split_texts
from wikigpt.config import Config
from wikigpt.errors import UserError
from wikigpt.evaluation.ngram import ByteNgram
from wikigpt.tokenizers import sample_evenly

TRAINING_BYTES = 16 * 2**20
"""At most so much training text, evenly from the whole, so that PPMd's counts of it fit in
`PPMD_MEMORY` (full, it would forget everything) and those of the n-grams in half a gigabyte."""
NGRAM_ORDERS = (2, 4, 8)
PPMD_ORDER = 16
PPMD_MEMORY = 2**30
PPMD_BYTES = 30
"""About so much memory is used for a byte of text."""


@dataclass(frozen=True)
class Floor:
    """One row: what was measured, and the bits it took for each byte of the validation text."""

    name: str
    bits_per_byte: float


def floors(config: Config, say: Callable[[str], None] = print) -> list[Floor]:
    """All floors for the corpus of an experiment, or of a run by its config.

    Raises:
        UserError: as `split_texts`.
    """
    validation = list(split_texts(config, "validation", say))
    training = list(sample_evenly(split_texts(config, "train", say), TRAINING_BYTES))
    as_bytes = ["".join(texts).encode() for texts in (validation, training)]
    return [*ngrams(validation, training), *compressors(*as_bytes, say)]


def ngrams(validation: Sequence[str], training: Sequence[str]) -> list[Floor]:
    """Smoothed n-grams of bytes, fitted on the training texts; ends of texts are paid for.

    Raises:
        UserError: no text on one side.
    """
    size, of = (sum(len(text.encode()) for text in texts) for texts in (validation, training))
    if not size:
        raise UserError("There is no validation text to predict; give at least one byte.")
    return [
        Floor(
            f"byte {n}-grams, Kneser-Ney, of {of:,} bytes of training text",
            ByteNgram.fit(training, n).nats(validation) / math.log(2) / size,
        )
        for n in NGRAM_ORDERS
    ]


def compressors(
    validation: bytes, training: bytes, say: Callable[[str], None] = print
) -> list[Floor]:
    """Every compressor there is, alone and, where it can be, after the training text.

    Args:
        say: is told what was left out.

    Raises:
        UserError: there is no validation text.
    """
    if not validation:
        raise UserError("There is no validation text to compress; give at least one byte.")
    found = [Floor("uniform bytes", 8.0)]

    def add(name: str, size: int) -> None:
        found.append(Floor(name, 8 * size / len(validation)))

    primed = f", after {len(training):,} bytes of training text"
    add("bz2 -9", len(bz2.compress(validation, 9)))
    for name, size_of in (("zstd --ultra -22", _zstd), ("xz -9e", _xz)):
        add(name, size_of(validation))
        if training:
            add(name + primed, size_of(training + validation) - size_of(training))
    try:
        import pyppmd  # noqa: F401
    except ImportError:
        say("PPMd is left out, since pyppmd is not installed (pip install 'wikigpt[floors]').")
        return found
    if PPMD_BYTES * (len(training) + len(validation)) > PPMD_MEMORY:
        say("PPMd's memory is full before the end of the text: it forgets, and its figure is high.")
    name = f"PPMd, order {PPMD_ORDER}"
    add(name, _ppmd(validation))
    if training:
        add(name + primed, _ppmd(training + validation) - _ppmd(training))
    return found


def floors_table(rows: Iterable[Floor]) -> str:
    """Floors, and models given as such, from the worst to the best, as text."""
    lines = [f"{'bits/byte':>9}{'share':>8}"]
    for row in sorted(rows, key=lambda row: -row.bits_per_byte):
        lines.append(f"{row.bits_per_byte:>9.3f}{row.bits_per_byte / 8:>8.1%}  {row.name}")
    return "\n".join(lines)


def _zstd(data: bytes) -> int:
    return len(pyarrow.Codec("zstd", compression_level=22).compress(data, asbytes=True))


def _xz(data: bytes) -> int:
    # Level 9 looks back 64 MiB; a dictionary larger than the text would only take memory.
    back = min(max(len(data), 2**12), 2**26)
    extreme = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": back}
    return len(lzma.compress(data, filters=[extreme]))


def _ppmd(data: bytes) -> int:
    import pyppmd

    memory = min(max(64 * len(data), 2**20), PPMD_MEMORY)
    encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, memory)
    # Piece by piece, so that the compressed text is never held as a whole.
    size = sum(len(encoder.encode(data[i : i + 2**20])) for i in range(0, len(data), 2**20))
    return size + len(encoder.flush())

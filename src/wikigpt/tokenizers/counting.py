"""How often does each piece occur? Texts stream in; memory grows with the distinct pieces only.

A large text is counted by several processes, a chunk at a time. The counts are sums, so they don't
depend on how many processes there are or which of them is done first.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice

from wikigpt.errors import UserError
from wikigpt.processes import undisturbed, usable_cores, worker_pool
from wikigpt.tokenizers.patterns import splitter

CHUNK_CHARACTERS = 2**22
# Processes import the package anew, and text and counts travel: on 50 MB of novels two took 7.0 s
# and 335 MiB, one alone 5.5 s and 76 MiB; on 50 MB of generated text two were faster, 7.5 s to 9.7.
# Measured once each on a busy machine, so the bound is a judgement.
CHUNKS_ALONE = 16


def count_pieces(
    texts: Iterable[str],
    pattern: str,
    processes: int | None = None,
    chunk_characters: int = CHUNK_CHARACTERS,
) -> Counter[str]:
    """The pieces into which `pattern` cuts `texts`, with their counts.

    Args:
        processes: by default one a core, started only if there is enough text to pay for them.

    Raises:
        UserError: a process was stopped from outside.
    """
    processes = processes or usable_cores()
    chunks = _chunks(texts, chunk_characters)
    counts: Counter[str] = Counter()
    for chunk in chunks if processes == 1 else islice(chunks, CHUNKS_ALONE):
        counts.update(_count(pattern, chunk))
    first = next(chunks, None)
    if first is None:
        return counts
    try:
        with worker_pool(processes) as pool:
            # Few chunks at a time are on their way: the texts must not pile up in memory.
            waiting: deque[Future[Counter[str]]] = deque()
            for chunk in chain([first], chunks):
                with undisturbed():
                    waiting.append(pool.submit(_count, pattern, chunk))
                if len(waiting) > 2 * processes:
                    counts.update(waiting.popleft().result())
            for future in waiting:
                counts.update(future.result())
    except BrokenProcessPool:
        raise UserError(
            "A process that was counting words died, most likely because memory ran out; close "
            "other programs or train on less text. (A script of your own must start its work under "
            '`if __name__ == "__main__":`.)'
        ) from None
    return counts


def _count(pattern: str, texts: list[str]) -> Counter[str]:
    split = splitter(pattern)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return counts


def _chunks(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= characters:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk

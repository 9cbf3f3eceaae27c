"""Many parts at once, on all cores of one machine.

A process a core, started afresh (`spawn`: the only way that is sound with threads, and the only one
on Windows). They outlive neither Ctrl-C nor the death of this process, however sudden: each holds
the reading end of a pipe whose other end is ours alone, and leaves when that is closed, by us or by
the operating system. Rejected: a plain executor, which on Ctrl-C waits until whole files are done,
and whose workers wait for ever for a parent that was killed.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from tqdm import tqdm

from wikigpt.blocks.parts import PartJob, write_part
from wikigpt.errors import UserError

MOST_WORKERS = 61
"""As many as Windows can wait for at once."""


def usable_cores() -> int:
    """The cores this process may run on, which on a shared machine are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_parts(jobs: Sequence[PartJob], workers: int) -> list[dict[str, Any]]:
    """Make the parts, `workers` at a time; returns their notes in the order of the jobs.

    Raises:
        UserError: a file can't be used; or a worker was killed. Parts that were made stay.
    """
    sizes = [job.source.stat().st_size for job in jobs]
    notes: list[dict[str, Any]] = [{} for _ in jobs]
    workers = min(workers, len(jobs), MOST_WORKERS)
    done = _one_by_one(jobs) if workers <= 1 else _in_workers(jobs, workers)
    with (
        contextlib.closing(done),
        tqdm(
            total=sum(sizes), desc="Tokenising", unit="B", unit_scale=True, mininterval=0.5,
            disable=len(jobs) <= 1,
        ) as bar,
    ):  # fmt: skip
        for i, note in done:
            notes[i] = note
            bar.update(sizes[i])
    return notes


def _one_by_one(jobs: Sequence[PartJob]) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, job in enumerate(jobs):
        yield i, write_part(job)


def _in_workers(jobs: Sequence[PartJob], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(theirs,))
    try:
        with _undisturbed():
            futures = {pool.submit(write_part, job): i for i, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "A process that was tokenising died, most likely because memory ran out; close other "
            "programs and run the same command again: what is tokenised is kept. (A script of your "
            'own must start its work under `if __name__ == "__main__":`.)'
        ) from None
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until all processes are started, and they never hear of it.

    A terminal sends it to all of them. One that is half started would say so at length.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python raises KeyboardInterrupt in the main thread only.
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    # Children inherit this mask; Windows has none, there `_begin` does it a moment later.
    masks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else None
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _begin(pipe: Connection) -> None:
    """The first thing a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(pipe,), daemon=True).start()


def _leave_with(pipe: Connection) -> None:
    """End this process, in the middle of whatever it does, when the pipe is closed."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    os._exit(1)

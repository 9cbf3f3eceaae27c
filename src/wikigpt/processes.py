"""Work on all cores of one machine, in processes that leave nothing behind.

They are started afresh (`spawn`: the only way that is sound with threads, and the only one on
Windows). They outlive neither Ctrl-C nor the death of this process, however sudden: each holds
the reading end of a pipe whose other end is ours alone, and leaves when that is closed, by us or by
the operating system. Rejected: a plain executor, which on Ctrl-C waits until whole files are done,
and whose workers wait for ever for a parent that was killed.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection

MOST_WORKERS = 61
"""As many as Windows can wait for at once."""


def usable_cores() -> int:
    """The cores this process may run on, which on a shared machine are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are gone when the block is left, whatever it is left by."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        min(workers, MOST_WORKERS), context, initializer=_begin, initargs=(theirs,)
    )
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
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

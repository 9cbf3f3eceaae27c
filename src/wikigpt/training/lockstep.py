"""A library that calls back, as a generator: `for event in in_lockstep(work): ...`

Trainer keeps the loop to itself and calls back; the rest of this house reads a run as a stream of
events that it may leave at any time. So the work runs in a thread that stands still whenever it has
told something, until the reader asks for more: never do both run at once. Rejected: callbacks for
the reader too (every notebook, plot and test would exist twice).
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Abandoned(BaseException):
    """Raised in the work when its reader insists on leaving without a save."""


def in_lockstep(
    work: Callable[[Callable[[Any], None]], None], please_stop: Callable[[str], None]
) -> Iterator[Any]:
    """Yield what `work(tell)` tells; its exception, if it raises one, becomes the reader's.

    Args:
        please_stop: called when the reader leaves early; the work should then save and return.
    """
    told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    go_on = threading.Semaphore(0)
    reader = "reading"

    def tell(event: Any) -> None:
        if reader == "reading":
            told.put(("event", event))
            go_on.acquire()
        if reader == "insisting":
            raise Abandoned

    def run() -> None:
        try:
            work(tell)
        except BaseException as error:
            told.put(("error", error))
        else:
            told.put(("end", None))

    # A daemon: a second Ctrl-C must not have to wait for a step that hangs.
    thread = threading.Thread(target=run, daemon=True, name="trainer")
    thread.start()
    try:
        while True:
            kind, what = told.get()
            if kind == "end":
                break
            if kind == "error":
                raise what
            yield what
            go_on.release()
    except GeneratorExit:
        please_stop("the reader left")
        reader = "gone"
        go_on.release()
        thread.join()
        while not told.empty():
            if (last := told.get())[0] == "error":
                raise last[1] from None
        raise
    except KeyboardInterrupt:
        reader = "insisting"
        go_on.release()
        raise
    thread.join()

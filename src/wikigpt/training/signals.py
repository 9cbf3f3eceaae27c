"""Ctrl-C and SIGTERM ask a run to save and stop; a second Ctrl-C insists."""

import signal
import sys
import threading
from types import FrameType
from typing import ClassVar, Self

from wikigpt.training import ranks


class StopRequest:
    """While entered, the first signal is noted in `reason`, the second raises KeyboardInterrupt.

    An exception raised wherever the signal happens to arrive (the default, in notebooks too) could
    hit the caller's plotting code, and the loop would never hear of it.

    Runs may overlap, as two generators of one notebook do, and end in any order. So the handlers
    stand from the first that enters to the last that leaves, and a signal is for all of them.
    """

    _active: ClassVar[list["StopRequest"]] = []
    _before: ClassVar[dict[int, object]] = {}

    def __init__(self) -> None:
        self.reason: str | None = None

    def __enter__(self) -> Self:
        self._active.append(self)
        # Python delivers signals to the main thread only, and lets only it set handlers.
        if threading.current_thread() is threading.main_thread() and not self._before:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._active.remove(self)
        if threading.current_thread() is threading.main_thread() and not self._active:
            self._restore()

    def heard(self) -> bool:
        """Whether any process was asked; all must stop at the same step."""
        reason = ranks.from_any(self.reason)
        if reason:  # and never back to None: a signal may have come while the others were asked
            self.reason = reason
        return reason is not None

    @classmethod
    def _restore(cls) -> None:
        while cls._before:
            signal.signal(*cls._before.popitem())

    @classmethod
    def _note(cls, number: int, frame: FrameType | None) -> None:
        if not cls._active:  # the last was left in another thread, which can't restore
            cls._restore()
            signal.raise_signal(number)
        elif any(request.reason for request in cls._active):
            raise KeyboardInterrupt
        else:
            print("\nStopping after this step; once more quits without saving.", file=sys.stderr)
            for request in cls._active:
                request.reason = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

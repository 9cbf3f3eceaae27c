"""Ctrl-C and SIGTERM ask a run to save and stop; a second Ctrl-C insists."""

import signal
import sys
import threading
from types import FrameType
from typing import Self


class StopRequest:
    """While entered, the first signal is noted in `reason`, the second raises KeyboardInterrupt.

    An exception raised wherever the signal happens to arrive (the default, in notebooks too) could
    hit the caller's plotting code, and the loop would never hear of it.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread only, and lets only it set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt
        print("\nStopping after this step; once more quits without saving.", file=sys.stderr)
        self.reason = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

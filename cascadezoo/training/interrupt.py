"""Ctrl-C, and the SIGTERM of a cluster, answered between two steps."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from cascadezoo.environment import is_first_process

_ANSWER = b"stopping after this step; Ctrl-C once more stops at once, back to the last checkpoint\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop(Exception):
    """A run that was asked to stop does so here."""


class Interrupt:
    """Within the block, ``asked`` says whether the run is to stop; a second Ctrl-C stops it at once.

    Outside the main thread, where Python has no signals, it never is.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if is_first_process():
            os.write(2, _ANSWER)  # print is not safe in a signal handler

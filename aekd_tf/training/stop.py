"""Stops a training cleanly on SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; `signal` says which, the message where the work was saved."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.signal = number


class StopSignals:
    """SIGTERM and SIGINT, as `Stopped` at once, or noted while a training can save itself."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._holding = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """While it lasts, the two signals raise `Stopped` in the main thread."""
        self.received = None
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts, the first signal is only noted, in `received`."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def check(self) -> None:
        """Raises `Stopped` if a signal was noted."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, frame: Any) -> None:
        first, self.received = self.received is None, number
        if not (self._holding and first):
            raise Stopped(number)


SIGNALS = StopSignals()

"""Stops a training cleanly on SIGTERM or Ctrl-C."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

SOON = 0.05  # seconds until a lost signal is sent again


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; `signal` is its number, and the message says what was saved."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.signal = number


class StopSignals:
    """Turns SIGTERM and SIGINT into `Stopped`, at once or after a training has saved itself.

    Attributes:
        received: number of the last signal; None before the first.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._holding = self._catching = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Makes the two signals raise `Stopped` in the main thread while the block lasts."""
        self.received, self._catching = None, True
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        hook, sys.unraisablehook = sys.unraisablehook, self._lost
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            self._catching = False
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Records the first signal in `received`, without raising, while the block lasts."""
        if not self._catching:
            self.received = None  # by a command that has ended
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def check(self) -> None:
        """Raises `Stopped` if a signal was recorded."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, frame: Any) -> None:
        first, self.received = self.received is None, number
        if not (self._holding and first):
            raise Stopped(number)

    def _lost(self, unraisable: Any) -> None:
        """Sends a signal again that came where Python drops exceptions, e.g. in `__del__`."""
        stopped = unraisable.exc_value
        if not isinstance(stopped, Stopped):
            sys.__unraisablehook__(unraisable)
            return
        if not self._holding:
            self.received = None  # so that a training that begins meanwhile saves itself
        threading.Timer(SOON, _thread.interrupt_main, [stopped.signal]).start()


SIGNALS = StopSignals()

"""Signals that stop a training."""

import signal
import sys
import time

import pytest

from aekd_tf.training.stop import Stopped, StopSignals


class Finalized:
    """Receives a signal while Python drops its exceptions."""

    def __init__(self, number: int):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def lose(number: int) -> None:
    finalized = Finalized(number)
    del finalized
    wait()


def wait(seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_finalizer_stops_soon_and_prints_nothing(number, capfd):
    signals, hook = StopSignals(), sys.unraisablehook
    with pytest.raises(Stopped) as stopped, signals.caught():
        lose(number)
    assert stopped.value.signal == number
    assert signals.received == number
    assert sys.unraisablehook is hook
    assert capfd.readouterr().err == ""


def test_a_lost_signal_is_held_by_a_training_that_begins_meanwhile():
    signals = StopSignals()
    with signals.caught():
        lost = Finalized(signal.SIGTERM)
        del lost
        with signals.held():
            wait(0.5)
            assert signals.received == signal.SIGTERM
        with pytest.raises(Stopped):
            signals.check()


def test_other_lost_errors_are_still_printed(capfd):
    class Broken:
        def __del__(self):
            raise ValueError("broken")

    with StopSignals().caught():
        broken = Broken()
        del broken
    assert "ValueError: broken" in capfd.readouterr().err

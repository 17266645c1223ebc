"""Runs a command: parses flags, starts TensorFlow quietly, reports errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aekd_tf.data.dataset import DataError
from aekd_tf.experiments.command import strategies
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.export.quiet import quiet
from aekd_tf.refusals import BackendError, check_backend


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the package.

    Attributes:
        parse: returns the configuration for some arguments, None for `--help`. The
            configuration has a `strategy`, the name of a strategy.
        help_text: returns the text of `--help`.
        module: name of the module whose `run(config)` does the work; it is imported together
            with TensorFlow.
    """

    parse: Callable[[Sequence[str]], Any]
    help_text: Callable[[], str]
    module: str


def main(command: Command, arguments: Sequence[str] | None = None) -> int:
    """Runs a command with the command line's flags and returns the exit code.

    The code is 0 after success. It is 2, with one line on stderr, for a mistake of the user or
    a disk that cannot be written. It is 130 after Ctrl-C and 143 after SIGTERM. Finished work
    stays on disk, and an interrupted training goes on from its last checkpoint.
    """
    try:
        config = command.parse(sys.argv[1:] if arguments is None else arguments)
        if config is None:
            return show(command.help_text())
        check_backend()
        with _quiet_start():
            from aekd_tf.training.stop import SIGNALS, Stopped

            work = importlib.import_module(command.module)
            strategies.strategy(config.strategy)  # creating the devices prints to stderr too
            _compile_once()
        if arguments is None:  # a process of its own
            # What was imported stays; not to look through it again saves a second at the end.
            gc.freeze()
    except (UserError, DataError, BackendError) as error:
        return _refusal(str(error))
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT, "")
    # Only the chief of several workers reports.
    printing = contextlib.nullcontext() if strategies.is_chief() else _silence()
    try:
        with SIGNALS.caught(), printing:
            work.run(config)
    except Stopped as stop:
        return _stopped(stop.signal, str(stop))
    except Exception as error:
        if SIGNALS.received is not None:  # a library turned `Stopped` into an error of its own
            return _stopped(SIGNALS.received, "")
        message = _explained(error, config.strategy)
        if message is None:
            raise
        return _refusal(message)
    return 0


def show(text: str) -> int:
    """Prints a text that answers a question, such as `--help`, and returns the exit code.

    The code is 0, also if a reader such as `head` has seen enough; it is 2 for a full disk.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refusal(f"the text cannot be written ({error.strerror}): make room, or look here")
    return 0


def _explained(error: Exception, strategy: str) -> str | None:
    """Returns a message for the user's errors; None for a fault of this package."""
    import tensorflow as tf

    from aekd_tf.cache.store import CacheError
    from aekd_tf.training.checkpoint import CheckpointError
    from aekd_tf.training.resume import DivergedError

    if isinstance(error, (UserError, DataError, CacheError, CheckpointError, DivergedError)):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'a file'} cannot be written or read ({error.strerror or error}): "
            "correct that and run the same command again; what is finished is kept"
        )
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
    )
    if strategy == "multi_worker" and isinstance(error, lost):
        reason = str(error).splitlines()[0].rpartition("}} ")[2]  # without the operation's name
        return (
            f"this worker lost the others ({reason}): start all of them again with the same "
            "commands; what is finished is kept, and a training goes on from its last checkpoint"
        )
    return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


# The library's messages name arguments, but a command line has flags.
_ARGUMENT_TO_FLAG = {
    r"\b(give|another|smaller) (data_dir|learning_rate)\b": r"\1 --\2",
    r"another directory for the cache": "another --cache_dir",
    r"load\('digits'\)": "--dataset=digits",
}


def _refusal(message: str) -> int:
    message = " ".join(message.split())
    for argument, flag in _ARGUMENT_TO_FLAG.items():
        message = re.sub(argument, flag, message)
    print(f"error: {message}", file=sys.stderr)
    return 2


def _stopped(number: int, place: str) -> int:
    print(f"\nstopped{place}: run the same command again to go on", file=sys.stderr)
    return 128 + number


def _compile_once() -> None:
    """Makes TensorFlow 2.20 say at the start that XLA compiles, not in the middle of a run."""
    import tensorflow as tf

    if tf.__version__.startswith("2.20."):
        tf.function(lambda: tf.zeros([]) + 1, jit_compile=True)()


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hides TensorFlow's start-up messages, and shows them if the start fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet(UserError, BackendError):
        import tensorflow as tf

        yield
    tf.get_logger().setLevel("ERROR")

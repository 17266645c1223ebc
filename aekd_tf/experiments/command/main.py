"""What every command shares: parse, start TensorFlow quietly, report errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aekd_tf.data.dataset import DataError
from aekd_tf.experiments.command import strategies
from aekd_tf.experiments.command.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the package.

    Attributes:
        parse: returns the configuration that the arguments ask for, None for `--help`. The
            configuration has a `strategy`, the name of one.
        help_text: returns what `--help` prints.
        module: name of the module whose `run(config)` does the work; imported when
            TensorFlow is.
    """

    parse: Callable[[Sequence[str]], Any]
    help_text: Callable[[], str]
    module: str


def main(command: Command, arguments: Sequence[str] | None = None) -> int:
    """Runs a command with the command line's flags and returns the exit code.

    The code is 0 when it is done, and 2 with one line on stderr for a mistake of the user or a
    disk that cannot be written. It is 130 when interrupted and 143 when terminated. Whatever is
    finished by then stays on disk, and a training goes on from its last checkpoint.
    """
    try:
        config = command.parse(sys.argv[1:] if arguments is None else arguments)
        if config is None:
            print(command.help_text())
            return 0
        with _quiet_start():
            from aekd_tf.training.stop import SIGNALS, Stopped

            work = importlib.import_module(command.module)
            strategies.strategy(config.strategy)  # creates the devices, which talks too
    except (UserError, DataError) as error:
        return _refusal(str(error))
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT, "")
    # One worker of several reports: the chief.
    heard = contextlib.nullcontext() if strategies.is_chief() else _silence()
    try:
        with SIGNALS.caught(), heard:
            work.run(config)
    except Stopped as stop:
        return _stopped(stop.signal, str(stop))
    except Exception as error:
        if SIGNALS.received is not None:  # it came within a library's code, which made this of it
            return _stopped(SIGNALS.received, "")
        message = _explained(error, config.strategy)
        if message is None:
            raise
        return _refusal(message)
    return 0


def _explained(error: Exception, strategy: str) -> str | None:
    """Returns what to tell the user of an error; None of a fault of ours."""
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
        reason = str(error).splitlines()[0].rpartition("}} ")[2]  # behind the operation's name
        return (
            f"this worker lost the others ({reason}): start all of them again with the same "
            "commands; what is finished is kept, and a training goes on from its last checkpoint"
        )
    return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


# The library names arguments; a command line has flags.
_IN_FLAGS = {
    r"\b(give|another|smaller) (data_dir|learning_rate)\b": r"\1 --\2",
    r"another directory for the cache": "another --cache_dir",
    r"load\('digits'\)": "--dataset=digits",
}


def _refusal(message: str) -> int:
    message = " ".join(message.split())
    for words, flag in _IN_FLAGS.items():
        message = re.sub(words, flag, message)
    print(f"error: {message}", file=sys.stderr)
    return 2


def _stopped(number: int, place: str) -> int:
    print(f"\nstopped{place}: run the same command again to go on", file=sys.stderr)
    return 128 + number


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps TensorFlow's start-up chatter off stderr; shows it if the start fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            yield
        except UserError:
            raise
        except BaseException:
            os.dup2(saved, 2)
            chatter.seek(0)
            sys.stderr.write(chatter.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)

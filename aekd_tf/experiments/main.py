"""What every experiment's command shares: parse, start TensorFlow quietly, report errors."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from aekd_tf.data import DataError
from aekd_tf.experiments.config import UserError
from aekd_tf.experiments.flags import help_text, parse


def main(experiment: str, arguments: Sequence[str] | None = None) -> int:
    """Runs `experiment` with the command line's flags; returns the exit code.

    0 when it is done, 2 with one line on stderr for a mistake of the user's or a disk that
    cannot be written, 130 when interrupted and 143 when terminated; what is finished by then
    stays on disk, and a training goes on from its last checkpoint.
    """
    from aekd_tf.experiments import paper

    given = sys.argv[1:] if arguments is None else arguments
    try:
        config = paper.parse(given) if experiment == "paper" else parse(experiment, given)
        if config is None:
            print(paper.help_text() if experiment == "paper" else help_text(experiment))
            return 0
        with _quiet_start():
            from aekd_tf.experiments import distillation, strategies, teachers
            from aekd_tf.resume import SIGNALS, Stopped

            strategies.strategy(config.strategy)  # creates the devices, which talks too
    except (UserError, DataError) as error:
        return _refusal(str(error))
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT, "")
    runs = {"teachers": teachers.run, "paper": paper.run}
    run: Any = runs.get(experiment, distillation.run)
    # Of several workers the chief reports.
    heard = contextlib.nullcontext() if strategies.is_chief() else _silence()
    try:
        with SIGNALS.caught(), heard:
            run(config)
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
    """What to tell the user of an error that is none of ours; None of one that is."""
    import tensorflow as tf

    if isinstance(error, (UserError, DataError)):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'a file'} cannot be written or read ({error.strerror or error}): "
            "mend that and run the same command again; what is finished is kept"
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


def _refusal(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
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

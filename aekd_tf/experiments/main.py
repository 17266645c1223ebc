"""What every experiment's command shares: parse, start TensorFlow quietly, report errors."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from aekd_tf.data import DataError
from aekd_tf.experiments.config import UserError
from aekd_tf.experiments.flags import help_text, parse


def main(experiment: str, arguments: Sequence[str] | None = None) -> int:
    """Runs `experiment` with the command line's flags; returns the exit code.

    0 when it is done, 2 with one line on stderr for a mistake of the user's, 130 when
    interrupted; what is finished by then stays on disk.
    """
    try:
        config = parse(experiment, sys.argv[1:] if arguments is None else arguments)
        if config is None:
            print(help_text(experiment))
            return 0
        with _quiet_start():
            from aekd_tf.experiments import distillation, teachers
        if experiment == "teachers":
            teachers.run(config)
        else:
            distillation.run(config)
    except (UserError, DataError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again to go on", file=sys.stderr)
        return 130
    return 0


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
            tf.config.list_logical_devices()  # creates the devices, which talks too
            yield
        except BaseException:
            os.dup2(saved, 2)
            chatter.seek(0)
            sys.stderr.write(chatter.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)

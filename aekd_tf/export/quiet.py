"""Hides what libraries print past Python."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*expected: type[BaseException]) -> Iterator[None]:
    """Hides what is written to stdout and stderr, by C++ code too, unless the block fails.

    TensorFlow's logger is silent, too: in a notebook it writes past the process's stderr.
    What was hidden is written to stderr before an error, except of the kinds `expected`, which
    speak for themselves.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    logger = logging.getLogger("tensorflow")
    level = logger.level

    def restore() -> None:
        logger.setLevel(level)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved.items():
            os.dup2(copy, number)

    with tempfile.TemporaryFile() as messages:
        try:
            logger.setLevel(logging.ERROR)
            for number in saved:
                os.dup2(messages.fileno(), number)
            yield
        except Exception as error:
            if not isinstance(error, expected):
                restore()
                messages.seek(0)
                sys.stderr.write(messages.read().decode(errors="replace"))
            raise
        finally:
            restore()
            for copy in saved.values():
                os.close(copy)

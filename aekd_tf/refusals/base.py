"""What a refusal is: a misuse, what is said to it and why."""

from __future__ import annotations

import dataclasses


class BackendError(ImportError):
    """Keras runs on something else than TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A misuse, what is said to it and why it is refused.

    Attributes:
        message: one line, with places for names and values.
        reason: what would happen otherwise.
        error: kind of exception.
    """

    message: str
    reason: str
    error: type[Exception] = ValueError

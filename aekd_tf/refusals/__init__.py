"""Everything that is refused because it would train or run wrongly, with its message and why.

`docs/what_can_go_wrong.md` is made from this table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from aekd_tf.refusals.base import BackendError, Refusal
from aekd_tf.refusals.data import DATA
from aekd_tf.refusals.export import EXPORT
from aekd_tf.refusals.models import MODELS
from aekd_tf.refusals.outputs import OUTPUTS
from aekd_tf.refusals.terms import TERMS

__all__ = ["REFUSALS", "BackendError", "Refusal", "check_backend", "listed", "refusal"]

LONGEST = 300

REFUSALS = OUTPUTS | MODELS | TERMS | EXPORT | DATA


def listed(names: Sequence[Any], room: int = 120) -> str:
    """Returns names separated by commas, cut with "... and 40 more" to about `room` characters."""
    shown: list[str] = []
    for name in names:
        text = str(name)
        if shown and sum(len(part) + 2 for part in shown) + len(text) > room:
            return f"{', '.join(shown)}, ... and {len(names) - len(shown)} more"
        shown.append(text)
    return ", ".join(shown)


def refusal(row_name: str, /, **values: Any) -> Exception:
    """Returns the exception of a refusal: one line of at most 300 characters.

    Args:
        row_name: which of `REFUSALS`.
        **values: what its message names; a list is cut.
    """
    row = REFUSALS[row_name]

    def text(room: int) -> str:
        shown: dict[str, Any] = {}
        for key, value in values.items():
            part = listed(value, room) if isinstance(value, (list, tuple)) else value
            if isinstance(part, str):
                part = " ".join(part.split())
                part = part if len(part) <= room else f"{part[: room - 3]}..."
            shown[key] = part
        return row.message.format(**shown)

    room = 120
    while len(message := text(room)) > LONGEST and room > 12:
        room -= 8
    return row.error(message)


def check_backend() -> None:
    """Refuses a backend other than TensorFlow, by the variable that chooses it."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise refusal("backend", backend=backend)

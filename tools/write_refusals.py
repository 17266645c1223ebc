"""Writes docs/what_can_go_wrong.md from the messages in aekd_tf/refusals.

python tools/write_refusals.py
"""

from __future__ import annotations

import re
from pathlib import Path

from aekd_tf.refusals import REFUSALS

PAGE = Path(__file__).parents[1] / "docs" / "what_can_go_wrong.md"

# By the first refusal of each part.
PARTS = {
    "student_probabilities": "Outputs and losses",
    "shared_variable": "Models and files",
    "no_loss": "Labels and settings",
    "old_weighting": "Weightings and distillation losses",
    "not_exportable": "Export",
    "not_a_dataset": "Data and installation",
}

KINDS = (ValueError, TypeError, ImportError)

INTRODUCTION = """\
# What can go wrong

Distillation that is set up wrongly often trains without an error, to a student that is worse.
This package looks for such mistakes before the first step, and ends with one line. The checks run
once, on the first batch. No step becomes slower, and nothing is updated before a refusal.

This page lists these lines, with the reason for each. Beside them, a value of a wrong type or
out of its range is refused. Words in capitals stand for names and values. Each error
is a `ValueError`, unless another kind is named.

`tools/write_refusals.py` writes this page from the messages in the code.
"""


def shown(message: str) -> str:
    """Returns a message with its places as words in capitals."""
    message = re.sub(r"\{(\w+)!r\}", r"'{\1}'", message)
    return re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), message)


def build() -> str:
    """Returns the page."""
    lines = [INTRODUCTION]
    for name, row in REFUSALS.items():
        if name in PARTS:
            lines.append(f"## {PARTS[name]}\n")
        (error,) = [kind for kind in KINDS if issubclass(row.error, kind)]
        kind = "" if error is ValueError else f" ({error.__name__})"
        lines.append(f"- `{shown(row.message)}`{kind}\\\n  {row.reason}")
        if next_name(name) in (*PARTS, None):
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def next_name(name: str) -> str | None:
    """Returns the row after `name`; None after the last."""
    names = [*REFUSALS, None]
    return names[names.index(name) + 1]


if __name__ == "__main__":
    PAGE.write_text(build(), encoding="utf-8")

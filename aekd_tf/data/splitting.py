"""Splits own data into training, validation and test examples, the same each time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

TEST, VALIDATION = 0.2, 0.1


def digests(labels: Sequence[Any], contents: Any) -> list[str]:
    """Returns the SHA-256 of each example's label and content, which is bytes or an array."""
    made = []
    for label, content in zip(labels, contents, strict=True):
        digest = hashlib.sha256(repr(label).encode() + b"\0")
        digest.update(content if isinstance(content, bytes) else np.asarray(content).tobytes())
        made.append(digest.hexdigest())
    return made


def held_out(classes: np.ndarray, digests: Sequence[str] | np.ndarray, share: float) -> np.ndarray:
    """Chooses a share of each class's examples, bool `[N]`.

    They are those of the smallest digests, so the choice depends on nothing but the examples, not
    on their order. Examples of one digest stay together.
    """
    chosen = np.zeros(len(classes), bool)
    names = np.array(digests)
    for each in np.unique(classes):
        places = np.flatnonzero(classes == each)
        wanted = round(share * len(places))
        found, counts = np.unique(names[places], return_counts=True)
        whole = found[: np.searchsorted(np.cumsum(counts), wanted, side="right")]
        chosen[places] = np.isin(names[places], whole)
    return chosen


def split(
    classes: np.ndarray, digests: Sequence[str], *, test: bool = True, validation: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which examples are for training, validation and test, each bool `[N]`.

    Args:
        classes: `[N]`, within which the shares are taken; one value for all without classes.
        digests: N texts of `digests`.
        test: whether a fifth is held out for the test.
        validation: whether a tenth of the rest is held out for validation.
    """
    tested = held_out(classes, digests, TEST) if test else np.zeros(len(classes), bool)
    rest = np.flatnonzero(~tested)
    validated = np.zeros(len(classes), bool)
    if not validation:
        return ~tested, validated, tested
    validated[rest] = held_out(classes[rest], np.array(digests)[rest], VALIDATION)
    return ~(tested | validated), validated, tested

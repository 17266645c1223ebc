"""Says differences and numbers in words."""

from __future__ import annotations

import numpy as np

from aekd_tf.experiments.statistics import interval

UNKNOWN = "not known yet"


def points(differences: np.ndarray) -> str:
    """Returns the mean and its interval, in points."""
    if not len(differences):
        return ""
    center, half = interval(differences)
    return f"{center:+.1f}" if np.isnan(half) else f"{center:+.1f} +- {half:.1f}"


def verdict(differences: np.ndarray) -> str:
    """Returns the same, and the word that the interval allows."""
    if len(differences) < 2:
        return UNKNOWN
    center, half = interval(differences)
    word = "above" if center - half > 0 else "below" if center + half < 0 else "no difference seen"
    return f"{points(differences)} points ({word})"


def number(value: float, form: str = ".2f") -> str:
    """Returns a number as text."""
    return UNKNOWN if np.isnan(value) else format(value, form)

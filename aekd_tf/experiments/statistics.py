"""Computes means and their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Returns the mean and the half width of its 95% interval (Student's t).

    The half width is NaN for a single value.
    """
    from scipy import stats

    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return float(np.mean(values)), float(half)


def shown(values: Sequence[float] | np.ndarray, signed: bool = False) -> str:
    """Formats values in % as `mean +- half width`; empty without values."""
    if not len(values):
        return ""
    mean, half = interval(values)
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    return text if np.isnan(half) else f"{text} +- {half:.2f}"

"""Draws the differences to the average, and the weights of spoilt teachers over training."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from aekd_tf.experiments.compare import weightings
from aekd_tf.experiments.compare.comparisons import Comparison
from aekd_tf.experiments.statistics import interval
from aekd_tf.monitoring.figures import COLORS

_COLUMNS = 3
_STYLES = ("-", "--", ":")


def differences(
    compared: dict[str, list[Comparison]], titles: dict[str, str], title: Callable[[str], str]
) -> Figure:
    """Draws accuracy minus the average's with its interval, one panel per setting.

    A point is filled if its interval excludes zero.
    """
    names = dict.fromkeys(row.weighting for rows in compared.values() for row in rows)
    names.pop(weightings.AVERAGE, None)
    heights = {name: height for height, name in enumerate(names)}
    figure, axes = _panels(len(compared), 1.1 + 0.24 * len(names))
    for (setting, rows), axis in zip(compared.items(), axes, strict=False):
        for row in rows:
            if row.weighting not in heights or not len(row.differences):
                continue
            center, half = interval(row.differences)
            color = {1: COLORS[0], -1: COLORS[1], 0: COLORS[-1]}[row.verdict]
            axis.errorbar(
                center,
                heights[row.weighting],
                xerr=np.nan_to_num(half),
                fmt="o",
                ms=4,
                capsize=2,
                color=color,
                mfc=color if row.verdict else "white",
            )
        axis.axvline(0, color="#555555", ls="--", lw=1)
        axis.set_title(titles[setting], fontsize=8)
        axis.set_yticks(range(len(names)), [title(name) for name in names], fontsize=6)
        axis.tick_params(axis="x", labelsize=7)
        axis.set_ylim(max(len(names), 1) - 0.5, -0.5)
        axis.grid(axis="x", alpha=0.3)
    return figure


def weights(lines: dict[str, dict[str, np.ndarray]], titles: dict[str, str]) -> Figure:
    """Draws the total weight of the spoilt teachers per epoch, one panel per setting."""
    figure, axes = _panels(len(lines), 2.6)
    names = list(dict.fromkeys(name for of_setting in lines.values() for name in of_setting))
    for (setting, of_setting), axis in zip(lines.items(), axes, strict=False):
        for name, values in of_setting.items():
            number = names.index(name)
            style = _STYLES[number // len(COLORS) % len(_STYLES)]
            color = COLORS[number % len(COLORS)]
            epochs = np.arange(1, len(values) + 1)
            axis.plot(epochs, values, color=color, ls=style, lw=1.3, label=name)
        axis.set_title(titles[setting], fontsize=8)
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlabel("epoch", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("weight of the spoilt teachers", fontsize=7)
    axes[0].legend(fontsize=5)
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list]:
    """Returns a figure and its first `count` axes, row by row."""
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.6 * columns + 0.6, height * rows))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]

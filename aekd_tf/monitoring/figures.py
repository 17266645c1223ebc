"""Draws pictures of accuracy with its intervals, and of the teachers' weights and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colors, which the color-blind tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
MARKS = ("o", "s", "^", "v", "D", "P", "X")


def curves(
    lines: dict[str, list[tuple[float, float, float]]],
    x_label: str,
    level: tuple[str, float, float] | None = None,
) -> Figure:
    """Draws mean accuracies in %, with 95% intervals.

    Args:
        lines: points `(x, mean, half width)` by name of the line.
        x_label: label of the x axis.
        level: name, mean and half width of a horizontal band; None for none.
    """
    figure = Figure(figsize=(6, 3.8))
    axis = figure.subplots()
    for (name, points), color, mark in zip(lines.items(), COLORS, MARKS, strict=False):
        x, mean, half = (np.array(column) for column in zip(*points, strict=True))
        axis.errorbar(x, mean, np.nan_to_num(half), fmt=f"{mark}-", color=color, label=name,
                      capsize=3, ms=4)  # fmt: skip
    if level is not None:
        name, height, width = level
        axis.axhline(height, color="#555555", ls="--", lw=1, label=name)
        axis.axhspan(height - width, height + width, color="#555555", alpha=0.12)
    axis.set_xlabel(x_label)
    axis.set_ylabel("test accuracy, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def bars(groups: dict[str, list[float]], names: Sequence[str]) -> Figure:
    """Draws one group of bars per name: the values `[M]` of each of `groups`."""
    figure = Figure(figsize=(2 + 0.9 * len(names), 3.4))
    axis = figure.subplots()
    width = 0.8 / len(groups)
    for index, ((title, values), color) in enumerate(zip(groups.items(), COLORS, strict=False)):
        places = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * width
        axis.bar(places, values, width, label=title, color=color)
    axis.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    axis.set_ylabel("weight")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    return figure


def differences(points: dict[str, tuple[float, float]], x_label: str) -> Figure:
    """Draws paired differences, `(mean, half width)` by name.

    A point is filled if its interval excludes zero.
    """
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(points)))
    axis = figure.subplots()
    for height, (mean, half) in enumerate(points.values()):
        color = COLORS[0] if mean - half > 0 else COLORS[1] if mean + half < 0 else COLORS[-1]
        fill = color if abs(mean) > half else "white"
        axis.errorbar(mean, height, xerr=half, fmt="o", ms=5, capsize=3, color=color, mfc=fill)
    axis.axvline(0, color="#555555", ls="--", lw=1)
    axis.set_yticks(range(len(points)), list(points), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(x_label)
    axis.grid(axis="x", alpha=0.3)
    return figure


def heat_map(weights: Sequence[Sequence[float]], title: str = "") -> Figure:
    """Draws the teachers' weights `[epochs, M]` over training."""
    figure = Figure(figsize=(6, 3))
    axis = figure.subplots()
    image = axis.imshow(
        np.transpose(weights), aspect="auto", cmap="viridis", interpolation="nearest", vmin=0
    )
    axis.set_xlabel("epoch")
    axis.set_ylabel("teacher")
    axis.set_title(title, fontsize=9)
    figure.colorbar(image, label="weight")
    return figure


def table(values: Any, title: str = "") -> Figure:
    """Draws weights `[M]` or `[K, M]` that never change: a row per class, a column per teacher."""
    values = np.atleast_2d(values)
    classes, teachers = values.shape
    figure = Figure(figsize=(2.2 + 0.45 * teachers, 1.6 + min(0.3 * classes, 8)))
    axis = figure.subplots()
    image = axis.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0)
    axis.set_xlabel("teacher")
    axis.set_ylabel("class")
    axis.set_xticks(range(teachers))
    axis.set_yticks(range(classes) if 1 < classes <= 20 else [])
    axis.set_title(title, fontsize=9)
    if values.size <= 200:
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value < 0.6 * values.max() else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, c=color)
    figure.colorbar(image, label="weight")
    return figure


def cosines(matrix: Any, title: str = "") -> Figure:
    """Draws the cosines `[M, M]` between the teachers' gradients."""
    figure = Figure(figsize=(4.4, 3.6))
    axis = figure.subplots()
    image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xlabel("teacher")
    axis.set_ylabel("teacher")
    axis.set_title(title, fontsize=9)
    figure.colorbar(image, label="cosine of the gradients")
    return figure


def effective(trajectories: dict[str, Any]) -> Figure:
    """Draws the effective number of teachers, 1 / sum w^2, over training, by name of the run."""
    figure = Figure(figsize=(8, 3.4))
    axis = figure.subplots()
    for (name, weights), color in zip(trajectories.items(), COLORS, strict=False):
        values = 1 / np.sum(np.square(weights), 1)
        axis.plot(np.arange(1, len(values) + 1), values, color=color, label=name)
    axis.set_xlabel("epoch")
    axis.set_ylabel("effective number of teachers")
    axis.set_ylim(1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def save(figure: Figure, path: str) -> None:
    """Writes a PNG."""
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def pixels(figure: Figure) -> np.ndarray:
    """Returns the figure's pixels `[1, height, width, 4]` uint8, for TensorBoard."""
    canvas = FigureCanvasAgg(figure)
    figure.tight_layout()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None].copy()

"""Draws how the data of one training step flow.

python tools/draw_architecture.py docs/architecture.svg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PACKAGE = Path(__file__).parents[1] / "aekd_tf"
# One unit is a pixel if the drawing is 700 pixels wide.
WIDTH, HEIGHT = 700, 1010
TEXT, PALE, LINE = "#1b1f24", "#4a525c", "#5b6570"
GRAY, BLUE, GREEN, ORANGE = "#eef0f3", "#dfeafa", "#e0f2e3", "#fdebd3"

# (left, top, width, height), color, title, files.
BOXES: list[tuple[tuple[int, int, int, int], str, str, list[str]]] = [
    ((240, 24, 200, 58), GRAY, "batch: inputs x, labels y", ["data/pipeline.py"]),
    ((36, 142, 178, 58), BLUE, "student", ["step.py"]),
    ((240, 142, 200, 58), GREEN, "M frozen teachers", ["teachers/ensemble.py"]),
    ((476, 142, 200, 58), GREEN, "or their cached outputs", ["cache/batches.py"]),
    ((240, 252, 436, 58), GREEN, "outputs that are finite", ["teachers/finite.py"]),
    (
        (240, 364, 300, 78),
        ORANGE,
        "loss from each teacher",
        ["terms/outputs.py, losses/kl.py", "hints: terms/features.py"],
    ),
    ((240, 494, 300, 58), ORANGE, "gradients, stopped at the outputs", ["gradients.py"]),
    ((240, 604, 300, 58), ORANGE, "Gram matrix", ["gradients.py"]),
    ((240, 714, 300, 78), ORANGE, "weighting", ["weightings/adaptive.py", "program: qp/solve.py"]),
    ((36, 494, 178, 58), BLUE, "compiled loss", ["step.py"]),
    ((36, 844, 504, 58), BLUE, "total loss, Eq. 7", ["step.py"]),
    ((36, 934, 300, 58), BLUE, "one backward pass, one step", ["training/global_batch.py"]),
    ((376, 934, 300, 58), GRAY, "logs", ["monitoring/metrics.py"]),
]

# The corners of each arrow, then its labels with the place where each begins.
ARROWS: list[tuple[list[tuple[int, int]], dict[str, tuple[int, int]]]] = [
    ([(250, 82), (125, 112), (125, 142)], {"x": (170, 90)}),
    ([(340, 82), (340, 142)], {"x": (349, 114)}),
    ([(430, 82), (576, 112), (576, 142)], {"teacher_logits [B, M, K]": (500, 88)}),
    ([(340, 200), (340, 252)], {"[M, B, K]": (349, 226)}),
    ([(576, 200), (576, 252)], {"[M, B, K]": (585, 226)}),
    ([(390, 310), (390, 364)], {"outputs [M, B, K], live [M]": (399, 337)}),
    ([(125, 200), (125, 494)], {}),
    ([(125, 403), (240, 403)], {"outputs [B, K]": (134, 391)}),
    ([(390, 442), (390, 494)], {"losses [M, B]": (399, 468)}),
    ([(390, 552), (390, 604)], {"[M, B, K]": (399, 578)}),
    ([(390, 662), (390, 714)], {"[M, M]": (399, 688)}),
    ([(390, 792), (390, 844)], {"weights [M] or [M, B]": (399, 818)}),
    ([(125, 552), (125, 844)], {"one number": (134, 698)}),
    (
        [(540, 403), (600, 403), (600, 753), (540, 753)],
        {
            "signals:": (609, 540),
            "losses [M, B]": (609, 558),
            "outputs": (609, 576),
            "labels [B]": (609, 594),
        },
    ),
    ([(600, 753), (600, 873), (540, 873)], {"losses [M, B]": (609, 818)}),
    ([(186, 902), (186, 934)], {"loss": (195, 917)}),
    ([(480, 902), (480, 934)], {"losses, weights, gap": (489, 917)}),
    ([(36, 963), (18, 963), (18, 171), (36, 171)], {"parameters": (26, 640)}),
]


def main(target: str) -> None:
    settings = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "aekd_tf",
        "font.family": ["DejaVu Sans", "sans-serif"],
    }
    # Neither the day nor the version of Matplotlib changes the file.
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(settings):
        _figure().savefig(target, format="svg", transparent=True, metadata=nothing)


def _figure() -> Figure:
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    _rounded(axes, (1, 1, WIDTH - 2, HEIGHT - 2), "white", 14)
    for box in BOXES:
        _box(axes, *box)
    for arrow in ARROWS:
        _arrow(axes, *arrow)
    return figure


def _rounded(axes: Any, place: tuple[int, int, int, int], color: str, radius: int) -> None:
    left, top, width, height = place
    style = f"round,pad=0,rounding_size={radius}"
    patch = FancyBboxPatch((left, top), width, height, style, fc=color, ec=LINE, lw=1)
    axes.add_patch(patch)


def _box(
    axes: Any, place: tuple[int, int, int, int], color: str, title: str, files: list[str]
) -> None:
    """Draws a box; FileNotFoundError if a file that it names is not there."""
    for name in re.findall(r"[\w/]+\.py", " ".join(files)):
        if not (PACKAGE / name).exists():
            raise FileNotFoundError(f"{name} is not in {PACKAGE}: correct the drawing")
    _rounded(axes, place, color, 8)
    left, top, width, _ = place
    centered: dict[str, Any] = {"ha": "center", "va": "center"}
    axes.text(left + width / 2, top + 20, title, size=12.5, color=TEXT, **centered)
    for row, line in enumerate(files):
        position = (left + width / 2, top + 41 + 19 * row)
        axes.text(*position, line, size=11.5, color=PALE, family="monospace", **centered)


def _arrow(axes: Any, corners: list[tuple[int, int]], labels: dict[str, tuple[int, int]]) -> None:
    axes.plot(*zip(*corners[:-1], strict=True), color=LINE, lw=1.4)
    style = {"arrowstyle": "-|>,head_width=0.28,head_length=0.55", "color": LINE, "lw": 1.4}
    axes.annotate("", corners[-1], corners[-2], arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    for label, place in labels.items():
        axes.text(*place, label, size=11.5, color=PALE, va="center")


if __name__ == "__main__":
    main(sys.argv[1])

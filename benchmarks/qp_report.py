"""Writes the tables and the figure of `benchmarks/qp.py`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import tensorflow as tf
from matplotlib.figure import Figure

from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.monitoring.figures import COLORS, save

RATIOS = ("smo / cvxopt", "smo / libsvm")


def times(results: dict, keys: tuple[str, ...], left: int = 0) -> str:
    """Returns a table of microseconds per problem, with a row per key of `results`."""
    names = list(next(iter(results.values())))
    rows = []
    for key, medians in results.items():
        cells = [f"{medians[name]:.1f}" if name in medians else "-" for name in names]
        for ratio in RATIOS:
            ours, theirs = (medians.get(name) for name in ratio.split(" / "))
            cells.append(f"{ours / theirs:.3f}" if theirs else "-")
        rows.append([*map(str, key if isinstance(key, tuple) else (key,)), *cells])
    return markdown_table([*keys, *names, *RATIOS], rows, left)


def torchjd_table(results: dict[int, dict[str, float]]) -> str:
    header = ["M", "smo, µs", "torchjd, µs", "smo / torchjd", "smo objective", "torchjd objective"]
    rows = [
        [
            str(size),
            f"{1e6 * row['smo']:.0f}",
            f"{1e6 * row['torchjd']:.0f}",
            f"{row['smo'] / row['torchjd']:.3f}",
            f"{row['smo objective']:.6f}",
            f"{row['torchjd objective']:.6f}",
        ]
        for size, row in results.items()
    ]
    return markdown_table(header, rows)


def report(
    results: dict[tuple[int, int], dict[str, float]],
    cap: float,
    turns: int,
    one_core: dict[int, dict[str, float]],
    random_gradients: dict[tuple[str, int], dict[str, float]],
    step: dict[str, float],
    torchjd: dict[int, dict[str, float]] | None,
) -> str:
    """Returns the page in Markdown."""
    batches = sorted({batch for batch, _ in results})
    single, many = (
        {size: row for (batch, size), row in results.items() if batch == chosen}
        for chosen in batches
    )
    against = [single[size] for size in single if 5 <= size <= 50]
    ranges = []
    for name in ("cvxopt", "libsvm"):
        ratios = [row["smo"] / row[name] for row in against]
        ranges.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
    share = step["weights alone"] / step["aekd"]
    parts = [
        "# The QP's speed",
        "    python benchmarks/qp.py docs/qp.md docs/qp.png",
        "`solve_capped_simplex_qp` on one problem, called from a user's `tf.function`, takes "
        f"{ranges[0]} of CVXOPT's time and {ranges[1]} of LIBSVM's for 5 to 50 teachers. "
        f"Gradients, Gram matrix and QP take {share:.1%} of a resnet20 step with 10 teachers.",
        f"All times are medians in microseconds per problem; the contestants take turns of one "
        f"call each. {platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}. "
        f"The cap is C = {cap}, at least 1.5 / M. The matrices are those of softened-KD gradients, "
        "given in float32 to the solvers in the graph and in float64 to the others. `smo, eager` "
        "is the same call outside a `tf.function`.",
        f"One problem per call, {turns} turns:",
        times(single, ("M",)),
        f"{batches[-1]} problems per call:",
        times(many, ("M",)),
        "One problem per call, in a process that has one core (`taskset -c 0`):",
        times(one_core, ("M",)),
        "One problem per call, random gradients with M + 3 numbers each (full rank) or M / 3. "
        "LIBSVM may take seconds for one problem if gradients depend on each other, so it is "
        "left out there:",
        times(random_gradients, ("gradients", "M"), left=1),
        "A step of a resnet20 student on 64 images, with 10 teachers' logits given, takes "
        f"{1e3 * step['aekd']:.1f} ms by AE-KD and {1e3 * step['average']:.1f} ms by AVER. "
        f"Gradients, Gram matrix and QP alone take {1e3 * step['weights alone']:.2f} ms.",
    ]
    if torchjd is None:
        parts.append("TorchJD was not installed, and so not measured.")
    else:
        parts += [
            f"TorchJD {version('torchjd')}'s MGDA is Frank-Wolfe on the same matrices with C = 1, "
            "one problem per call. Objectives are relative to the optimum (medians):",
            torchjd_table(torchjd),
        ]
    parts.append("![Microseconds per problem](qp.png)")
    return "\n\n".join(parts) + "\n"


def draw(results: dict[tuple[int, int], dict[str, float]], target: str) -> None:
    """Draws microseconds per problem over M, one panel per batch size."""
    batches, sizes = (sorted({key[part] for key in results}) for part in (0, 1))
    figure = Figure(figsize=(10, 3.8))
    panels = figure.subplots(1, len(batches), sharey=True)
    for axis, batch in zip(panels, batches, strict=True):
        for name, color in zip(next(iter(results.values())), COLORS, strict=False):
            values = [results[batch, size][name] for size in sizes]
            axis.loglog(sizes, values, "o-", color=color, label=name, ms=4)
        axis.set_title("one problem per call" if batch == 1 else f"{batch} problems per call")
        axis.set_xlabel("teachers M")
        axis.set_xticks(sizes, sizes)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("microseconds per problem")
    panels[0].legend(fontsize=8)
    save(figure, target)

"""The tables and the figure of `benchmarks/qp.py`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tensorflow as tf


def one_core_lines(found: dict[int, dict[str, float]], turns: int) -> list[str]:
    lines = [
        "In a process that has one core (`taskset -c 0`), one problem a call and one call a turn, "
        f"{turns} turns, microseconds:",
        "",
        "| M | smo | cvxopt | libsvm | smo / cvxopt | smo / libsvm |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for size, medians in found.items():
        smo, cvxopt, libsvm = (medians[name] for name in ("smo", "cvxopt", "libsvm"))
        lines.append(
            f"| {size} | {1e6 * smo:.1f} | {1e6 * cvxopt:.1f} | {1e6 * libsvm:.1f} | "
            f"{smo / cvxopt:.3f} | {smo / libsvm:.3f} |"
        )
    return lines


def others_lines(found: dict[tuple[str, int], dict[str, float]]) -> list[str]:
    lines = [
        "Gram matrices of random gradients, M + 3 numbers each (full rank) or M / 3, one problem a "
        "call, microseconds. Where gradients depend on each other LIBSVM may take seconds for one "
        "problem, and is left out:",
        "",
        "| gradients | M | smo | cvxopt | libsvm | smo / cvxopt | smo / libsvm |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for (kind, size), medians in found.items():
        smo, cvxopt, libsvm = (medians.get(name) for name in ("smo", "cvxopt", "libsvm"))
        last = (
            f"{1e6 * libsvm:.1f} | {smo / cvxopt:.3f} | {smo / libsvm:.3f}"
            if libsvm
            else f"- | {smo / cvxopt:.3f} | -"
        )
        lines.append(f"| {kind} | {size} | {1e6 * smo:.1f} | {1e6 * cvxopt:.1f} | {last} |")
    return lines


def torchjd_lines(found: dict[int, dict[str, float]] | None) -> list[str]:
    if found is None:
        return ["TorchJD was not installed, and so not measured."]
    lines = [
        f"TorchJD {version('torchjd')}'s MGDA (Frank-Wolfe on the same Gram matrices, C = 1, one "
        "problem a call), and its objective relative to the optimum (median of 100):",
        "",
        "| M | smo, µs | torchjd, µs | smo / torchjd | smo objective | torchjd objective |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for size, row in found.items():
        ours, theirs = row["smo seconds"], row["torchjd seconds"]
        lines.append(
            f"| {size} | {1e6 * ours:.0f} | {1e6 * theirs:.0f} | {ours / theirs:.3f} | "
            f"{row['smo objective']:.6f} | {row['torchjd objective']:.6f} |"
        )
    return lines


def table(
    results: dict[tuple[int, int], dict[str, float]],
    others: dict[tuple[str, int], dict[str, float]],
    step: dict[str, float],
    torchjd: dict[int, dict[str, float]] | None,
    one_core: dict[int, dict[str, float]],
    *,
    cap: float,
    turns: int,
) -> str:
    """Markdown: microseconds a problem, and ratios to CVXOPT and LIBSVM."""
    names = [name for name in next(iter(results.values())) if not name.startswith("first ")]
    lines = [
        "# The QP's speed",
        "",
        "    python benchmarks/qp.py docs/qp.md docs/qp.png",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}; microseconds "
        f"a problem, medians of calls, ten a turn (of 256 problems one); C = {cap} (1.5 / M at "
        "least), Gram matrices of softened-KD gradients, float32 in the graph, float64 outside.",
        "",
        "| M | batch | " + " | ".join(names) + " | smo / cvxopt | smo / libsvm | first call: smo "
        "| cvxopt | libsvm |",
        "|--:|--:|" + "--:|" * (len(names) + 5),
    ]
    for (batch, size), medians in results.items():
        cells = [f"{1e6 * medians[name] / batch:.1f}" for name in names]
        smo = medians["smo"]
        cells += [f"{smo / medians['cvxopt']:.3f}", f"{smo / medians['libsvm']:.3f}"]
        firsts = [medians[f"first {name}"] for name in ("smo", "cvxopt", "libsvm")]
        cells += [f"{1e6 * first / batch:.1f}" for first in firsts]
        lines.append(f"| {size} | {batch} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`first call` is a turn's first: any XLA program on a CPU runs on a thread of its own, "
        "which sleeps while other solvers work, and waking it costs most of that call.",
        "",
        *others_lines(others),
        "",
        "resnet20 student, batch 64, 10 teachers' logits given: a step takes "
        f"{1e3 * step['aekd']:.1f} ms by AE-KD and {1e3 * step['average']:.1f} ms by AVER; "
        "gradients, Gram matrix and QP alone take "
        f"{1e3 * step['weights alone']:.2f} ms, {step['weights alone'] / step['aekd']:.1%} of the "
        "step.",
        "",
        *one_core_lines(one_core, turns),
        "",
        *torchjd_lines(torchjd),
        "",
        "![Microseconds a problem](qp.png)",
    ]
    return "\n".join(lines) + "\n"


def draw(results: dict[tuple[int, int], dict[str, float]], target: str) -> None:
    colors = ("#d55e00", "#0072b2", "#e69f00", "#009e73", "#56b4e9", "#555555")
    batches, sizes = (sorted({key[part] for key in results}) for part in (0, 1))
    _, axes = plt.subplots(1, len(batches), figsize=(10, 3.8), sharey=True)
    for axis, batch in zip(axes, batches, strict=True):
        for name, color in zip(next(iter(results.values())), colors, strict=False):
            values = [1e6 * results[batch, size][name] / batch for size in sizes]
            axis.loglog(sizes, values, "o-", color=color, label=name, ms=4)
        axis.set_title("one problem a call" if batch == 1 else f"{batch} problems a call")
        axis.set_xlabel("teachers M")
        axis.set_xticks(sizes, sizes)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("microseconds a problem")
    axes[0].legend(fontsize=8)
    plt.tight_layout()
    plt.savefig(target, dpi=130)

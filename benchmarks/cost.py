"""What the paper's tables and figures would cost: trainings counted, steps measured here.

    python benchmarks/cost.py docs/cost.md

Counts the trainings that `--preset=paper` asks for, measures how long a training step and a
forward pass of each network take on this machine, and computes the hours; then, by the number of
floating-point operations, the hours of a GPU at two rates that are assumed, not measured.
"""

from __future__ import annotations

import collections
import os
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import models
from aekd_tf.experiments.command.presets import recipe
from aekd_tf.experiments.paper import choice, grids
from aekd_tf.experiments.paper.cells import Cell
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text

# Training images without those held out for validation, image size, classes, measured batch.
SETS = {
    "cifar10": (50_000, 32, 10, 64),
    "cifar100": (50_000, 32, 100, 64),
    "imagenet2012": (1_271_167, 224, 1000, 8),
}
RATES = (2e12, 10e12)
TURNS = 7


def create(dataset: str, network: str) -> keras.Model:
    _, size, classes, _ = SETS[dataset]
    return models.create(network, classes, (size, size, 3))


def operations(model: keras.Model) -> int:
    """Floating-point operations of one image's forward pass, of all kernels."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            places = int(np.prod(layer.output.shape[1:-1]))
            total += 2 * int(np.prod(kernel.shape)) * places
    return total


def seconds_per_image(dataset: str, network: str) -> tuple[float, float]:
    """Medians: of a training step and of a forward pass, by image."""
    _, size, _, batch = SETS[dataset]
    model = create(dataset, network)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = tf.random.normal([batch, size, size, 3])
    labels = tf.zeros([batch], tf.int64)
    forward = tf.function(lambda images: model(images, training=False))
    taken: list[list[float]] = []
    for _ in range(TURNS + 1):
        begun = time.perf_counter()
        model.train_on_batch(images, labels)
        trained = time.perf_counter()
        forward(images)
        taken.append([trained - begun, time.perf_counter() - trained])
    step, passing = np.median(taken[1:], axis=0) / batch  # the first turn traces
    return float(step), float(passing)


def networks_of(cell: Cell, preset: grids.Preset) -> list[str]:
    """The teachers' networks."""
    if cell.teachers == "mixed":
        return list(preset.mixed)
    return [cell.teachers] * cell.size


def trainings(cells: list[Cell], preset: grids.Preset) -> collections.Counter:
    """How many of each `(role, data set, network, teachers, images per epoch)`."""
    found: collections.Counter = collections.Counter()
    teachers: dict[tuple[str, str, int], None] = {}
    for cell in cells:
        given = networks_of(cell, preset)
        for index, network in enumerate(given):
            number = index if cell.teachers != "mixed" else 0
            teachers[cell.dataset, network, number] = None
        images = SETS[cell.dataset][0]
        if choice.is_candidate(cell):
            images -= images // 10
        if cell.method != "ensemble":
            found["student", cell.dataset, cell.student, tuple(given), images] += 1
    for dataset, network, _ in teachers:
        found["teacher", dataset, network, (), SETS[dataset][0]] += 1
    return found


def main(report: str) -> None:
    preset = grids.PRESETS["paper"]
    cells = [cell for number in (1, 2, 3) for cell in grids.table(number, preset)]
    cells += [cell for number in (2, 3) for cell in grids.figure(number, preset)]
    found = trainings(grids.over_seeds(cells, preset.seeds), preset)
    pairs = {(dataset, network) for _, dataset, network, *_ in found}
    pairs |= {(dataset, teacher) for _, dataset, _, given, _ in found for teacher in given}
    speeds = {pair: seconds_per_image(*pair) for pair in tqdm(sorted(pairs), unit="network")}
    work = {pair: operations(create(*pair)) for pair in pairs}

    rows: dict[tuple[str, str, str], np.ndarray] = {}
    for (role, dataset, network, given, each_epoch), count in found.items():
        epochs = recipe(dataset, network, role == "teacher")["epochs"]
        images = each_epoch * epochs * count
        step = speeds[dataset, network][0] + sum(speeds[dataset, t][1] for t in given)
        # A backward pass is two forward passes' operations.
        each = 3 * work[dataset, network] + sum(work[dataset, t] for t in given)
        figures = np.array([count, images, images * step / 3600, images * float(each)])
        key = (role, dataset, network)
        rows[key] = rows.get(key, np.zeros(4)) + figures
    write(report, speeds, work, rows)


def write(
    report: str,
    speeds: dict[tuple[str, str], tuple[float, float]],
    work: dict[tuple[str, str], int],
    rows: dict[tuple[str, str, str], np.ndarray],
) -> None:
    lines = [
        "# What the paper's scale would cost",
        "",
        "    python benchmarks/cost.py docs/cost.md",
        "",
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}: "
        f"medians of {TURNS} steps in float32, batch {SETS['cifar10'][3]} "
        f"(ImageNet: {SETS['imagenet2012'][3]}); operations are those of the kernels, and a "
        "training step counts as three forward passes.",
        "",
        markdown_table(
            [
                *("data", "network", "MFLOP, forward", "ms per image, training"),
                *("ms, forward", "GFLOP/s, training"),
            ],
            [
                [
                    *(*pair, f"{work[pair] / 1e6:.1f}", f"{1e3 * step:.3f}"),
                    *(f"{1e3 * passing:.3f}", f"{3 * work[pair] / step / 1e9:.0f}"),
                ]
                for pair, (step, passing) in sorted(speeds.items())
            ],
            left=2,
        ),
    ]
    low, high = (f"{rate / 1e12:.0f} TFLOP/s" for rate in RATES)
    lines += [
        "",
        "`python -m aekd_tf.experiments.paper --preset=paper --table=1,2,3 --figure=2,3` trains, "
        f"with {grids.PRESETS['paper'].seeds} seeds per cell and the candidates for beta, the "
        "teachers in every student's step (hints' regressors and validation not counted):",
        "",
    ]
    header = ["role", "data", "network", "trainings", "images, 10^9", "hours, these cores"]
    header += [f"GPU-hours at {low}", f"at {high}"]
    cells = []
    everything = np.zeros(4)
    for (role, dataset, network), figures in sorted(rows.items()):
        cells.append([role, dataset, network, *_figures(figures)])
        everything += figures
    cells.append(["all", "", "", *_figures(everything)])
    lines += [
        markdown_table(header, cells, left=3),
        "",
        "The two rates are assumptions: what a GPU sustains on networks as small as these is set "
        "by how fast kernels start, far below its peak. `--cache_views` takes the teachers out of "
        "the students' steps.",
    ]
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


def _figures(figures: np.ndarray) -> list[str]:
    count, images, hours, operations_ = figures
    gpu = [f"{operations_ / rate / 3600:,.0f}" for rate in RATES]
    return [f"{count:.0f}", f"{images / 1e9:.2f}", f"{hours:,.0f}", *gpu]


if __name__ == "__main__":
    main(*sys.argv[1:])

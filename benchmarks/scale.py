"""Measures what a step costs and what an exchange costs, and models 1 to 1,024 devices.

    python benchmarks/scale.py docs/scale.md docs/scale.png

The exchange is an all-reduce between two worker processes over this machine's loopback.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from aekd_tf import CachedTeachers, EnsembleDistiller, models
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text
from aekd_tf.monitoring.figures import COLORS, save
from aekd_tf.training.replicas import summed

TEACHERS, CLASSES, BATCH = 10, 10, 64
BATCHES = (16, 64, 256)
SIZES = (4, 4_000, 40_000, 400_000, 4_000_000)
DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Of what joins accelerators: seconds per hop, bytes per second.
FAST_LINK = 10e-6, 10e9
HERE = os.path.dirname(os.path.abspath(__file__))


def step_seconds() -> tuple[float, float]:
    """`(a, b)` of a cached AE-KD step of n images, `a + b n`, by least squares of medians."""
    student = models.create("resnet20", CLASSES, (32, 32, 3))
    distiller = EnsembleDistiller(student, CachedTeachers(TEACHERS), weighting="aekd")
    distiller.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.optimizer.build(distiller.trainable_variables)
    step = tf.function(distiller.train_step)
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    for turn in range(21):
        for size in BATCHES:
            x = {
                "inputs": tf.random.normal([size, 32, 32, 3]),
                "teacher_logits": tf.random.normal([size, TEACHERS, CLASSES]),
            }
            begun = time.perf_counter()
            step((x, tf.zeros([size], tf.int64)))
            if turn:  # the first one traces
                taken[size].append(time.perf_counter() - begun)
    b, a = np.polyfit(BATCHES, [np.median(taken[size]) for size in BATCHES], 1)
    return max(float(a), 0.0), float(b)


def exchange_seconds() -> dict[int, float]:
    """Median seconds of one all-reduce of so many bytes between two local workers."""
    with tempfile.TemporaryDirectory() as directory:
        target = f"{directory}/seconds.npy"
        launcher = os.path.join(HERE, "..", "tools", "local_workers.py")
        command = [sys.executable, launcher, "2", sys.executable, __file__, "--worker", target]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return dict(zip(SIZES, np.load(target).tolist(), strict=True))


def worker(target: str) -> None:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    medians = []
    for size in SIZES:
        exchange = tf.function(
            functools.partial(strategy.run, lambda n=size: summed(tf.ones([n // 4])[None])),
            autograph=False,
        )
        taken = []
        for _ in range(41):
            begun = time.perf_counter()
            exchange()
            taken.append(time.perf_counter() - begun)
        medians.append(np.median(taken[1:]))
    if strategy.extended.should_save_summary:
        np.save(target, medians)


def traffic() -> dict[str, tuple[int, int]]:
    """By purpose, how many all-reduces a step makes one after the other, and their bytes."""
    network = models.create("resnet20", CLASSES, (32, 32, 3))
    norms = [layer for layer in network.layers if "norm" in layer.name]
    channels = sum(layer.gamma.shape[0] for layer in norms)
    # Forward: sums, squares and counts of every channel; backward: the same of their gradients.
    return {
        "student's gradients": (
            1,
            4 * sum(int(np.prod(v.shape)) for v in network.trainable_weights),
        ),
        "batch norm": (2 * len(norms), 4 * 2 * 3 * channels),
        "teachers' gradients, mean": (1, 4 * TEACHERS * CLASSES),
        "counts": (1, 4 * (TEACHERS + 1)),
    }


def all_reduce(devices: int, size: float, latency: float, rate: float) -> float:
    """Seconds for `size` bytes: by a ring or by a tree, whichever is faster."""
    hops = 2 * math.ceil(math.log2(devices))
    tree = hops * (latency + size / rate)
    ring = 2 * (devices - 1) * (latency + size / devices / rate)
    return min(tree, ring)


def modeled(
    devices: int,
    images: float,
    step: tuple[float, float],
    link: tuple[float, float],
    without: str = "",
) -> float:
    """Seconds of a step on so many devices, `images` each, over a link of (latency, rate)."""
    exchanges = [
        count * all_reduce(devices, size / count, *link)
        for name, (count, size) in traffic().items()
        if name != without
    ]
    return step[0] + step[1] * images + sum(exchanges)


def main(report: str, picture: str) -> None:
    step, exchange = step_seconds(), exchange_seconds()
    # Two workers make two hops: one to add up, one to hand round.
    slope, _ = np.polyfit(SIZES, list(exchange.values()), 1)
    here = exchange[4] / 2, 1 / float(slope)
    cases = {
        f"{BATCH} images each": lambda r: modeled(r, BATCH, step, here),
        "local batch norm": lambda r: modeled(r, BATCH, step, here, "batch norm"),
        "fast link": lambda r: modeled(r, BATCH, step, FAST_LINK),
        "1,024 in all, fast link": lambda r: modeled(r, 1024 / r, step, FAST_LINK),
    }
    seconds = {name: [case(r) for r in DEVICES] for name, case in cases.items()}
    lines = [
        "# Scale, on paper",
        "",
        "    python benchmarks/scale.py docs/scale.md docs/scale.png",
        "",
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}: a "
        f"cached AE-KD step of n images (resnet20, M = {TEACHERS}, K = {CLASSES}) takes "
        f"{1000 * step[0]:.1f} + {1000 * step[1]:.2f} n ms. An all-reduce between two worker "
        "processes over the loopback takes "
        + ", ".join(f"{1000 * s:.1f} ms ({n:,} bytes)" for n, s in exchange.items())
        + f": {1000 * here[0]:.2f} ms per hop and {here[1] / 1e6:.0f} MB/s.",
        "",
        "What a device exchanges in a step, and how often it waits:",
        "",
        markdown_table(
            ["what", "all-reduces in a row", "bytes"],
            [[name, str(count), f"{size:,}"] for name, (count, size) in traffic().items()],
            left=1,
        ),
        "",
        "The model: every device computes its images; every all-reduce then goes round a ring, "
        "2 (R - 1) hops of n / R bytes, or up and down a tree, 2 log2 R hops of n bytes, whichever "
        "is faster; nothing overlaps, and reading data costs nothing. Real backends overlap the "
        "student's gradients with the backward pass, so this bounds the time from above. Almost "
        "all waiting is synchronized batch norm's; AE-KD's own part is two exchanges. The columns: "
        f"{BATCH} images per device over this machine's loopback, the same without "
        f"synchronized batch norm, and {BATCH} per device or 1,024 in all over a link of "
        f"{1e6 * FAST_LINK[0]:.0f} us per hop and {FAST_LINK[1] / 1e9:.0f} GB/s, an assumption "
        "that was not measured. The devices are as slow as two cores: a device ten times as fast "
        "waits ten times as large a share.",
        "",
    ]
    header = ["devices R"]
    for name in seconds:
        header += [f"{name}, ms", "efficiency"]
    rows = []
    for index, devices in enumerate(DEVICES):
        cells = [str(devices)]
        for name, values in seconds.items():
            speed = values[0] / values[index] / (devices if "in all" in name else 1)
            cells += [f"{1000 * values[index]:.0f}", f"{speed:.2f}"]
        rows.append(cells)
    lines.append(markdown_table(header, rows))
    lines += ["", "![Milliseconds per step](scale.png)"]
    write_text(report, "\n".join(lines) + "\n")
    draw(seconds, picture)
    print("\n".join(lines))


def draw(seconds: dict[str, list[float]], picture: str) -> None:
    figure = Figure(figsize=(6, 3.8))
    axis = figure.subplots()
    for (name, values), color, mark in zip(seconds.items(), COLORS, "osv^", strict=False):
        milliseconds = [1000 * value for value in values]
        axis.plot(DEVICES, milliseconds, f"{mark}-", color=color, label=name, ms=4)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("devices")
    axis.set_ylabel("milliseconds per step, computed")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, picture)


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        worker(sys.argv[2])
    else:
        main(*sys.argv[1:])

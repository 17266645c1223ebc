"""Measures what a step costs and what an exchange costs, and reckons with 1 to 1,024 devices.

    python benchmarks/scale.py docs/scale.md docs/scale.png

The exchange is an all-reduce between two worker processes over this machine's loopback. With
the rates of another network and device in `reckoned` the same model serves there.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from aekd_tf import CachedTeachers, EnsembleDistiller, models
from aekd_tf.replicas import summed

TEACHERS, CLASSES, BATCH = 10, 10, 64
BATCHES = (16, 64, 256)
SIZES = (4, 4_000, 40_000, 400_000, 4_000_000)
DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
HERE = os.path.dirname(os.path.abspath(__file__))


def step_seconds() -> tuple[float, float]:
    """`(a, b)` of a cached AE-KD step of n images, `a + b n`, by least squares of medians."""
    student = models.create("resnet20", CLASSES, (32, 32, 3))
    distiller = EnsembleDistiller(student, CachedTeachers(TEACHERS))
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
        launcher = os.path.join(HERE, "..", "docs", "local_workers.py")
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


def reckoned(
    devices: int, images: float, step: tuple[float, float], latency: float, rate: float
) -> float:
    """Seconds of a step on so many devices, `images` each: nothing overlaps, ring all-reduce."""
    hops = 2 * (devices - 1)
    exchanges = traffic().values()
    waiting = sum(count for count, _ in exchanges) * hops * latency
    sending = sum(size for _, size in exchanges) * hops / devices / rate
    return step[0] + step[1] * images + waiting + sending


def main(report: str, picture: str) -> None:
    step, exchange = step_seconds(), exchange_seconds()
    # Two workers make two hops: one to add up, one to hand round.
    rate, _ = np.polyfit(SIZES, list(exchange.values()), 1)
    latency, rate = exchange[4] / 2, 1 / float(rate)
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
        + f": {1000 * latency:.1f} ms a hop and {rate / 1e6:.0f} MB/s.",
        "",
        "What a device sends and receives in a step, and how often it waits:",
        "",
        "| what | all-reduces in a row | bytes |",
        "|:--|--:|--:|",
        *(f"| {name} | {count} | {size:,} |" for name, (count, size) in traffic().items()),
        "",
        "The model: every device computes its images; then each all-reduce of n bytes takes "
        "2 (R - 1) hops and 2 (R - 1) / R n / rate (a ring); nothing overlaps, every link is as "
        "fast as the loopback here, and reading data costs nothing. Real backends overlap the "
        "student's gradients with the backward pass and use trees for small messages, so this is "
        "an upper bound for them. `--batch_gradient=full` sends M x M numbers for M x K.",
        "",
        f"| devices R | ms a step, {BATCH} images each | efficiency | ms a step, 1,024 images in "
        "all | speed-up |",
        "|--:|--:|--:|--:|--:|",
    ]
    weak = [1000 * reckoned(r, BATCH, step, latency, rate) for r in DEVICES]
    strong = [1000 * reckoned(r, 1024 / r, step, latency, rate) for r in DEVICES]
    for r, each, together in zip(DEVICES, weak, strong, strict=True):
        lines.append(
            f"| {r} | {each:.0f} | {weak[0] / each:.2f} | {together:.0f} "
            f"| {strong[0] / together:.1f} |"
        )
    lines += ["", "![Milliseconds a step](scale.png)"]
    with open(report, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    _, axis = plt.subplots(figsize=(6, 3.8))
    axis.plot(DEVICES, weak, "o-", color="#0072b2", label=f"{BATCH} images a device")
    axis.plot(DEVICES, strong, "s-", color="#d55e00", label="1,024 images in all")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("devices")
    axis.set_ylabel("milliseconds a step, reckoned")
    axis.grid(alpha=0.3)
    axis.legend()
    plt.tight_layout()
    plt.savefig(picture, dpi=130)
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        worker(sys.argv[2])
    else:
        main(*sys.argv[1:])

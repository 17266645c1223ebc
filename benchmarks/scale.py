"""Measures what a step costs and what an exchange costs, and models 1 to 1,024 devices.

    python benchmarks/scale.py docs/scale.md docs/scale.png

The exchange is an all-reduce between two worker processes over this machine's loopback. What a
step exchanges is counted, not assumed: every all-reduce of a traced step on two replicas.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from aekd_tf import AdaptiveWeighting, CachedTeachers, EnsembleDistiller, models
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
# Name -> weighting and hints. The first is the one that is modeled.
KINDS: dict[str, tuple[Any, list[str]]] = {
    "AE-KD, mean gradients": (AdaptiveWeighting(), []),
    "AVER": ("average", []),
    "AE-KD, full gradients": (AdaptiveWeighting(batch_gradient="full"), []),
    "AE-KD, per example": (AdaptiveWeighting(per_example=True), []),
    "AE-KD and one hint": (AdaptiveWeighting(), ["stage2"]),
    "AE-KD and three hints": (AdaptiveWeighting(), ["stage1", "stage2", "stage3"]),
}
MODELED = next(iter(KINDS))
# Height, width and channels of resnet20's feature maps.
MAPS = {"stage1": (32, 32, 16), "stage2": (16, 16, 32), "stage3": (8, 8, 64)}
# All-reduces in a row, and bytes.
Traffic = dict[str, tuple[int, int]]


def distiller_of(kind: str) -> EnsembleDistiller:
    """Returns a compiled distiller of cached teachers."""
    weighting, layers = KINDS[kind]
    shapes = [MAPS[layer] for layer in layers for _ in range(TEACHERS)]
    options = {"hints": layers, "hint_weight": 1.0} if layers else {}
    student = models.create("resnet20", CLASSES, (32, 32, 3))
    teachers = CachedTeachers(TEACHERS, shapes or None)
    distiller = EnsembleDistiller(student, teachers, weighting=weighting, **options)
    distiller.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return distiller


def batch_of(kind: str, size: int) -> tuple[Any, Any]:
    """Returns noise in the shape of a batch."""
    x: dict[str, Any] = {
        "inputs": tf.random.normal([size, 32, 32, 3]),
        "teacher_logits": tf.random.normal([size, TEACHERS, CLASSES]),
    }
    layers = KINDS[kind][1]
    if layers:
        maps = [tf.random.normal([size, *MAPS[layer]]) for layer in layers]
        x["teacher_features"] = tuple(each for each in maps for _ in range(TEACHERS))
    return x, tf.zeros([size], tf.int64)


def step_seconds() -> tuple[tuple[float, float], dict[str, float]]:
    """Returns `(a, b)` of a step of n images, `a + b n`, and each kind's seconds of 64 images.

    `(a, b)` are least squares of medians.
    """
    contestants = [(MODELED, size) for size in BATCHES]
    contestants += [(kind, BATCH) for kind in KINDS if kind != MODELED]
    steps, taken = {}, {contestant: [] for contestant in contestants}
    for kind, _ in contestants:
        if kind not in steps:
            distiller = distiller_of(kind)
            distiller.build((None, 32, 32, 3))
            distiller.optimizer.build(distiller.trainable_variables)
            steps[kind] = tf.function(distiller.train_step)
    for turn in range(21):
        for kind, size in contestants:
            batch = batch_of(kind, size)
            begun = time.perf_counter()
            steps[kind](batch)
            if turn:  # the first one traces
                taken[kind, size].append(time.perf_counter() - begun)
    medians = {contestant: float(np.median(each)) for contestant, each in taken.items()}
    b, a = np.polyfit(BATCHES, [medians[MODELED, size] for size in BATCHES], 1)
    return (max(float(a), 0.0), float(b)), {kind: medians[kind, BATCH] for kind in KINDS}


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


def traffic(kind: str) -> Traffic:
    """Returns what a step exchanges, by purpose; counted by a process with two CPU devices."""
    command = [sys.executable, __file__, "--traffic", kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: tuple(numbers) for name, numbers in json.loads(done.stdout).items()}


def count_traffic(kind: str) -> None:
    """Prints what a step exchanges: all-reduces in a row, and bytes."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found: Traffic = {}
    context = tf.distribute.ReplicaContext
    original = context.all_reduce

    def counted(self: Any, operation: Any, value: Any, options: Any = None) -> Any:
        places = [frame.filename for frame in traceback.extract_stack()]
        purpose = "teachers and counts"
        if any("optimizers" in place for place in places):
            purpose = "student's gradients"
        elif any("normalization" in place or "backprop" in place for place in places):
            purpose = "batch norm"
        calls, size = found.get(purpose, (0, 0))
        tensors = tf.nest.flatten(value)
        size += sum(tensor.dtype.size * int(np.prod(tensor.shape)) for tensor in tensors)
        found[purpose] = calls + 1, size
        return original(self, operation, value, options)

    with strategy.scope():
        distiller = distiller_of(kind)
        distiller.build((None, 32, 32, 3))
        distiller.optimizer.build(distiller.trainable_variables)
    batches = tf.data.Dataset.from_tensors(batch_of(kind, BATCH))
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    context.all_reduce = counted
    step = tf.function(lambda batch: strategy.run(distiller.train_step, args=(batch,)))
    step.get_concrete_function(next(iterator))
    # Each of the two replicas traces its calls.
    print(json.dumps({name: (calls // 2, size // 2) for name, (calls, size) in found.items()}))


def all_reduce(devices: int, size: float, latency: float, rate: float) -> float:
    """Seconds for `size` bytes: by a ring or by a tree, whichever is faster."""
    hops = 2 * math.ceil(math.log2(devices))
    tree = hops * (latency + size / rate)
    ring = 2 * (devices - 1) * (latency + size / devices / rate)
    return min(tree, ring)


def modeled(
    devices: int,
    seconds: float,
    exchanged: Traffic,
    link: tuple[float, float],
    without: str = "",
) -> float:
    """Seconds of a step of `seconds` on each of so many devices, with a link of (latency, rate)."""
    exchanges = [
        count * all_reduce(devices, size / count, *link)
        for name, (count, size) in exchanged.items()
        if name != without
    ]
    return seconds + sum(exchanges)


def main(report: str, picture: str) -> None:
    (step, of_kinds), exchange = step_seconds(), exchange_seconds()
    exchanged = {kind: traffic(kind) for kind in KINDS}
    base = exchanged[MODELED]
    # Two workers make two hops: one to add up, one to hand round.
    slope, _ = np.polyfit(SIZES, list(exchange.values()), 1)
    here = exchange[4] / 2, 1 / float(slope)

    def seconds_of(images: float) -> float:
        return step[0] + step[1] * images

    cases = {
        f"{BATCH} images each": lambda r: modeled(r, seconds_of(BATCH), base, here),
        "local batch norm": lambda r: modeled(r, seconds_of(BATCH), base, here, "batch norm"),
        "fast link": lambda r: modeled(r, seconds_of(BATCH), base, FAST_LINK),
        "1,024 in all, fast link": lambda r: modeled(r, seconds_of(1024 / r), base, FAST_LINK),
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
            [[name, str(count), f"{size:,}"] for name, (count, size) in base.items()],
            left=1,
        ),
        "",
        "The model: every device computes its images; every all-reduce then goes round a ring, "
        "2 (R - 1) hops of n / R bytes, or up and down a tree, 2 log2 R hops of n bytes, whichever "
        "is faster; nothing overlaps, and reading data costs nothing. Real backends overlap the "
        "student's gradients with the backward pass, so this bounds the time from above. Almost "
        "all waiting is synchronized batch norm's. The columns: "
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
    lines += ["", "![Milliseconds per step](scale.png)", "", "## Other weights, more terms", ""]
    lines += [
        "The same for other weightings and for hints: what they exchange besides the student's "
        "gradients and batch norm, and a step of "
        f"{BATCH} images on one device (measured), on 8 over the loopback without synchronized "
        "batch norm, and on 64 over the fast link (computed). Weights per example are found "
        "where the examples are: what they exchange are means for the logs. Every hint is a term "
        "with a program of its own, whose gradients have the size of a feature map.",
        "",
    ]
    names = ["weights and terms", "all-reduces in a row", "bytes", "1 device, ms"]
    rows = []
    for kind, each in exchanged.items():
        count, size = each["teachers and counts"]
        eight = modeled(8, of_kinds[kind], each, here, "batch norm")
        many = modeled(64, of_kinds[kind], each, FAST_LINK)
        times = [f"{1000 * value:.0f}" for value in (of_kinds[kind], eight, many)]
        rows.append([kind, str(count), f"{size:,}", *times])
    lines.append(markdown_table([*names, "8 devices, ms", "64 devices, ms"], rows, left=1))
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
    elif sys.argv[1] == "--traffic":
        count_traffic(sys.argv[2])
    else:
        main(*sys.argv[1:])

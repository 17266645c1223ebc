"""Times whole trainings of a student on digits, and a sweep that shares one cache.

    python benchmarks/end_to_end.py docs/end_to_end.md docs/end_to_end.png

Runs the experiment's own code in one process: pipeline, tracing, training, validation every
epoch, evaluation, files. Teachers are resnet8 trained for one epoch; what they know does not
change the time.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from aekd_tf.experiments.digits import COMMAND
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.experiments.run import distillation
from aekd_tf.files import write_text
from aekd_tf.monitoring.figures import COLORS, save

SIZES = (1, 5, 10, 25)
SWEEP_SIZES = (1, 3, 5, 10, 15, 25)
METHODS = ("alone", "average", "aekd")
ROUNDS = 2
IMAGES = 12 * 1200


def run(directory: str, name: str, size: int, *flags: str) -> dict[str, float]:
    """Seconds of each student, and under "total" of the whole run."""
    arguments = [
        f"--ensemble_size={size}",
        "--teacher_epochs=1",
        f"--teachers_dir={directory}/teachers",
        f"--output_dir={directory}/{name}",
        *flags,
    ]
    config = COMMAND.parse(arguments)
    started = time.perf_counter()
    results = distillation.run(config)
    seconds = {method: row["seconds"] for method, row in results["students"].items()}
    return {**seconds, "total": time.perf_counter() - started}


def measure(directory: str) -> dict[tuple[int, str], list[float]]:
    """(M, case) -> seconds of one student, each round anew."""
    found: dict[tuple[int, str], list[float]] = {}
    for number in range(ROUNDS):
        for size in SIZES:
            for mode, views in (("cached", 12), ("online", 0)):
                methods = METHODS if mode == "cached" else METHODS[1:]
                name = f"{mode}_{size}_{number}"
                flags = (f"--methods={','.join(methods)}", f"--cache_views={views}")
                seconds = run(directory, name, size, *flags)
                for method in methods:
                    case = method if method == "alone" else f"{method} {mode}"
                    found.setdefault((size, case), []).append(seconds[method])
    return found


def sweep(directory: str) -> tuple[float, float]:
    """Seconds of six ensemble sizes by two weightings, and of its twelve students."""
    total = students = 0.0
    for size in SWEEP_SIZES:
        seconds = run(directory, f"sweep_{size}", size, "--methods=average,aekd")
        total += seconds["total"]
        students += seconds["average"] + seconds["aekd"]
    return total, students


CASES = ("alone", "average cached", "aekd cached", "average online", "aekd online")


def table(means: dict[tuple[int, str], float], swept: tuple[float, float]) -> str:
    rows = []
    for size in SIZES:
        seconds = [f"{means[size, case]:.1f}" for case in CASES]
        rows.append([str(size), *seconds, f"{IMAGES / means[size, 'aekd cached']:.0f}"])
    lines = [
        "# A whole training's time",
        "",
        "    python benchmarks/end_to_end.py docs/end_to_end.md docs/end_to_end.png",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}; seconds, "
        f"means of {ROUNDS} trainings of a resnet8 for 12 epochs of 1,200 digits (228 steps), "
        "with tracing, validation, evaluation and files; teachers resnet8.",
        "",
        markdown_table(["M", *CASES, "images/s, aekd cached"], rows),
    ]
    total, students = swept
    alone = 2 * len(SWEEP_SIZES) * float(np.mean([means[size, "alone"] for size in SIZES]))
    lines += [
        "",
        f"A sweep of the ensemble sizes {', '.join(map(str, SWEEP_SIZES))} by AVER and AE-KD, the "
        f"cache there: {total:.0f} s, of which its twelve students {students:.0f} s: "
        f"{total / students:.2f} times their time, and {total / alone:.2f} times that of twelve "
        "students without teachers.",
        "",
        "![Seconds per training](end_to_end.png)",
    ]
    return "\n".join(lines) + "\n"


def draw(means: dict[tuple[int, str], float], target: str) -> None:
    figure = Figure(figsize=(6, 3.8))
    axis = figure.subplots()
    for case, color in zip(CASES, COLORS, strict=False):
        values = [means[size, case] for size in SIZES]
        axis.plot(SIZES, values, "o-", color=color, label=case, ms=4)
    axis.set_xlabel("teachers M")
    axis.set_ylabel("seconds per training")
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.set_ylim(0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, target)


def main(report: str, picture: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run(directory, "warm", max(SIZES), "--methods=aekd")  # trains teachers, fills the cache
        means = {key: float(np.mean(values)) for key, values in measure(directory).items()}
        text = table(means, sweep(directory))
    write_text(report, text)
    draw(means, picture)
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Runs an exported file by its runtime, refuses a wrong one, and measures it."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from aekd_tf.export import runtimes
from aekd_tf.export.comparison import Comparison, compare
from aekd_tf.export.examples import Batch
from aekd_tf.export.quiet import quiet
from aekd_tf.export.runtimes import Run
from aekd_tf.export.wrapping import Exported, reason_of
from aekd_tf.export.write import TITLES
from aekd_tf.refusals import refusal

_WARM_UP, _RUNS = 10, 100


def run_and_compare(
    exported: Exported,
    student: Run,
    path: str,
    file_format: str,
    quantize: str | None,
    comparison: Comparison,
    *,
    what: str,
    batches: Iterable[Batch],
    one_by_one: bool,
    threads: int,
) -> dict[str, Any]:
    """Returns the part of the report that comes from running a file.

    Args:
        exported: the model that was written.
        student: the same model in Keras.
        path: the file or folder.
        file_format: its format.
        quantize: its quantization.
        comparison: an empty comparison.
        what: what the batches are called.
        batches: what both are run on.
        one_by_one: whether the file takes one example at a time.
        threads: threads of the runtime.

    Raises:
        ValueError: the file cannot be run, or differs more than it may; data that do not fit.
    """
    title = TITLES[file_format]
    package = runtimes.missing(file_format)
    if package is not None:
        reason = f"not checked: {package} is not installed (pip install 'aekd_tf[export]')"
        print(f"the {title} file of student {exported.name} was {reason}", file=sys.stderr)
        unknown = (*comparison.figures(), "head", "latency_ms", "threads")
        return {**dict.fromkeys(unknown), "checked": reason}

    @contextlib.contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            row = "not_loaded" if file_format == "keras" else "not_run"
            values = {"name": exported.name, "reason": reason_of(error), "format": title}
            raise refusal(row, **values) from error

    with quiet(Exception):
        with refused():
            loaded = runtimes.load(file_format, path, exported, threads)

        def file(arrays: list[np.ndarray]) -> list[np.ndarray]:
            with refused():
                if not one_by_one:
                    return loaded(arrays)
                rows = [loaded([a[i : i + 1] for a in arrays]) for i in range(len(arrays[0]))]
                return [np.concatenate(each) for each in zip(*rows, strict=True)]

        first = compare(exported, student, file, batches, comparison, what)
        latency = _latency_ms(file, first)
    limit, difference = comparison.limit(quantize), comparison.largest_difference
    if not difference < limit:
        raise refusal(
            "export_differs",
            format=title,
            name=exported.name,
            difference=f"{difference:.3g}",
            what=what,
            limit=f"{limit:.3g}",
        )
    return {
        **comparison.figures(),
        "head": comparison.head,
        "latency_ms": latency,
        "threads": runtimes.threads_of(file_format, threads),
        "checked": f"{comparison.examples} examples of {what}",
    }


def _latency_ms(file: Run, example: list[np.ndarray]) -> float:
    """Returns the median time of a batch of one example, in milliseconds."""
    for _ in range(_WARM_UP):
        file(example)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        file(example)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def size_of(path: str) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )

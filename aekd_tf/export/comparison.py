"""Compares what a file gives with what the student gives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from aekd_tf.export.examples import Batch
from aekd_tf.export.runtimes import Run
from aekd_tf.export.wrapping import Exported
from aekd_tf.outputs import of_output
from aekd_tf.refusals import refusal
from aekd_tf.teachers.votes import as_classes, as_zero_one, counted_positions

# Largest difference to the student, by quantization, per unit of the largest output or of 1.
_LIMITS = {None: 1e-4, "float16": 5e-3}


@dataclasses.dataclass
class Comparison:
    """What a file and the student gave, counted over batches.

    Attributes:
        head: what the compared output is, `"classes"`, `"labels"` or `"regression"`; None until
            the first batch shows it.
        threshold: above it a label is on.
        examples: number of examples.
        largest_difference: over all outputs.
        largest: largest absolute value of the student's outputs.
        answers: number of answers; `agreeing`, `right` and `student_right` are shares of it.
    """

    head: str | None
    threshold: float
    examples: int = 0
    largest_difference: float = 0.0
    largest: float = 0.0
    answers: int = 0
    agreeing: int = 0
    judged: int = 0
    right: int = 0
    student_right: int = 0

    def limit(self, quantize: str | None) -> float:
        """Returns the largest difference that is no fault; infinite for integers."""
        return _LIMITS.get(quantize, math.inf) * max(1.0, self.largest)

    def figures(self) -> dict[str, float | None]:
        """Returns what the report says."""

        def share(count: int, total: int) -> float | None:
            return count / total if total else None

        return {
            "largest_difference": self.largest_difference,
            "agreement": share(self.agreeing, self.answers),
            "accuracy": share(self.right, self.judged),
            "keras_accuracy": share(self.student_right, self.judged),
        }


def compare(
    exported: Exported,
    student: Run,
    file: Run,
    batches: Iterable[Batch],
    comparison: Comparison,
    what: str,
) -> list[np.ndarray]:
    """Adds batches to a comparison and returns the inputs of the first example.

    Raises:
        ValueError: the student's outputs are not finite; labels that do not fit.
    """
    first: list[np.ndarray] = []
    for arrays, y, weight in batches:
        first = first or [array[:1] for array in arrays]
        expected, given = student(arrays), file(arrays)
        comparison.examples += len(arrays[0])
        for theirs, ours in zip(expected, given, strict=True):
            if theirs.dtype.kind not in "fiub" or not theirs.size:
                continue
            theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
            if not np.isfinite(theirs).all():
                raise refusal("not_finite", name=exported.name, what=what)
            difference = np.nan_to_num(np.abs(theirs - ours), nan=np.inf, posinf=np.inf)
            comparison.largest_difference = max(
                comparison.largest_difference, float(difference.max())
            )
            comparison.largest = max(comparison.largest, float(np.abs(theirs).max()))
        labels, weight = (of_output(part, exported.key, exported.student) for part in (y, weight))
        pair = expected[exported.position], given[exported.position]
        _count(exported, comparison, pair, labels, weight)
    return first


def _count(
    exported: Exported,
    comparison: Comparison,
    pair: tuple[np.ndarray, np.ndarray],
    y: Any,
    weight: Any,
) -> None:
    """Counts the answers on which student and file agree, and those that are right."""
    outputs = pair[0]
    if comparison.head is None:
        comparison.head = _head(outputs, y)
    if comparison.head == "regression" or outputs.ndim < 2:
        return
    if comparison.head == "classes":
        answers = [each.argmax(-1) for each in pair]
        truth = None if y is None else _classes(exported, y, outputs)
    else:
        answers = [each > comparison.threshold for each in pair]
        truth = None if y is None else as_zero_one(y, outputs.shape) > 0.5
    kept = counted_positions(weight, outputs.shape[:-1])
    ours, theirs = answers[0][kept], answers[1][kept]
    comparison.answers += ours.size
    comparison.agreeing += int((ours == theirs).sum())
    if truth is not None:
        comparison.judged += ours.size
        comparison.student_right += int((ours == truth[kept]).sum())
        comparison.right += int((theirs == truth[kept]).sum())


def _head(outputs: np.ndarray, y: Any) -> str:
    """Returns what outputs are, by the labels or, without any, by their number."""
    several = outputs.ndim > 1 and outputs.shape[-1] > 1
    if y is None:
        return "classes" if several else "regression"
    values = np.asarray(y)
    if values.size != outputs.size or (several and values.shape != outputs.shape):
        return "classes" if several else "regression"
    if not np.isin(values, (0, 1)).all():
        return "regression"
    return "classes" if several and (values.sum(-1) == 1).all() else "labels"


def _classes(exported: Exported, y: Any, outputs: np.ndarray) -> np.ndarray:
    values = np.asarray(y)
    whole = values.dtype.kind == "f" and np.array_equal(values, np.round(values))
    labels = as_classes(values.astype(np.int64) if whole else values, outputs.shape)
    classes = outputs.shape[-1]
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise refusal(
            "examples_classes",
            name=exported.name,
            low=labels.min(),
            high=labels.max(),
            classes=classes,
            last=classes - 1,
        )
    return labels

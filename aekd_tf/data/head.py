"""Finds out what labels mean: classes, one logit, independent labels, or values."""

from __future__ import annotations

import dataclasses

import numpy as np

from aekd_tf.data.dataset import DataError


@dataclasses.dataclass(frozen=True)
class Targets:
    """Labels that can be trained on.

    Attributes:
        head: `"classes"`, `"logit"`, `"labels"` or `"regression"`.
        names: names of the classes, of the labels or of the values.
        values: `[N]` int64 classes; `[N, K]` float32 for other heads.
        outputs: K of a model for them.
    """

    head: str
    names: tuple[str, ...]
    values: np.ndarray

    @property
    def outputs(self) -> int:
        return 1 if self.head == "logit" else len(self.names)


def targets_of(
    labels: np.ndarray, head: str, columns: tuple[str, ...], one_output: bool
) -> Targets:
    """Returns labels `[N]` or `[N, K]` of any kind as targets.

    Args:
        labels: whole numbers, however written, texts or numbers.
        head: one of `DATA_HEADS`; `"auto"`: whole numbers and texts are classes, 0 and 1 with
            models of one output one logit, a matrix of 0 and 1 independent labels, and other
            numbers, or more than two values with one output, are values.
        columns: names of the columns, as far as there are any.
        one_output: whether the models are known to have one output.

    Raises:
        DataError: labels that are not finite, of one class alone, or do not fit the head.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    texts = labels.dtype.kind in "OSU"
    numbers = None if texts and not _are_numbers(labels) else labels.astype(np.float64)
    if numbers is not None and not np.isfinite(numbers).all():
        place = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise DataError(f"label {place} (counted from 0) is not finite: leave that example out")
    if labels.ndim > 2:
        raise DataError(f"labels have shape {labels.shape}: give one per example, or one row")
    zero_one = numbers is not None and bool(np.isin(numbers, (0, 1)).all())
    whole = numbers is None or bool((numbers == np.round(numbers)).all())
    found = head
    if head == "auto":
        if labels.ndim == 2:
            found = "labels" if zero_one else "regression"
        elif one_output:
            found = "logit" if zero_one else "regression"
        else:
            found = "classes" if whole else "regression"
    if found in ("logit", "labels") and not zero_one:
        raise DataError(f"head={found} requires labels that are 0 or 1: choose another head")
    if found == "classes":
        return _classes(labels, numbers)
    if numbers is None:
        raise DataError(f"head={found} requires numbers, but labels are texts: use head=classes")
    values = numbers.reshape(len(numbers), -1).astype(np.float32)
    if found == "logit" and values.shape[1] != 1:
        raise DataError(f"head=logit requires one label, not {values.shape[1]}: use head=labels")
    if found != "regression" and (values == values[0]).all():
        raise DataError("all examples have the same labels: there is nothing to learn")
    names = (
        columns
        if len(columns) == values.shape[1]
        else tuple(f"output {index}" for index in range(values.shape[1]))
    )
    return Targets(found, names, values)


def _classes(labels: np.ndarray, numbers: np.ndarray | None) -> Targets:
    if labels.ndim == 2:
        zero_one = numbers is not None and np.isin(numbers, (0, 1)).all()
        if numbers is None or not zero_one or not (numbers.sum(1) == 1).all():
            raise DataError(
                f"head=classes requires one label per example, not {labels.shape[1]}: use "
                "head=labels or head=regression"
            )
        return Targets("classes", tuple(map(str, range(labels.shape[1]))), labels.argmax(1))
    if numbers is not None and not (numbers == np.round(numbers)).all():
        raise DataError("head=classes requires whole numbers or texts: use head=regression")
    known, places = np.unique(labels if numbers is None else numbers, return_inverse=True)
    if len(known) < 2:
        raise DataError(f"all examples are of one class, {known[0]}: give at least two classes")
    names = tuple(str(each) if numbers is None else str(int(each)) for each in known)
    return Targets("classes", names, places.reshape(-1).astype(np.int64))


def _are_numbers(labels: np.ndarray) -> bool:
    try:
        labels.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True

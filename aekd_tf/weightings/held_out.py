"""Held-out examples, and the teachers' outputs for them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf.cache.batches import CachedTeachers, split_batch
from aekd_tf.data.user_data import batches, is_arrays
from aekd_tf.keras_private import split_validation
from aekd_tf.outputs import of_output
from aekd_tf.refusals import refusal
from aekd_tf.teachers.ensemble import TeacherEnsemble


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Examples that neither teachers nor student were trained on.

    Attributes:
        read: yields batches `(outputs [M, n, ..., K], labels, sample_weight)`; the last two may
            be None.
        num_teachers: M.
        head: what the outputs are.
        labeled: whether there are labels.
        temperature: the only one at which the outputs are right, as a top-k cache's are; None
            for any.
        missing: why there are no such examples; None if there are.
    """

    read: Callable[[], Iterator[tuple[Any, Any, Any]]]
    num_teachers: int
    head: str
    labeled: bool
    temperature: float | None = None
    missing: str | None = None


def held_out(teachers_or_outputs: Any, data: Any, head: str) -> HeldOut:
    """Returns held-out examples.

    Args:
        teachers_or_outputs: a `TeacherEnsemble`, models, or outputs `[M, N, ..., K]`.
        data: for models `x`, `(x, y)` or `(x, y, sample_weight)`, or batches of these; for
            outputs `y` or None.
        head: what the outputs are.

    Raises:
        ValueError: outputs of another shape.
    """
    given = teachers_or_outputs
    several = isinstance(given, (list, tuple)) and any(isinstance(m, keras.Model) for m in given)
    if isinstance(given, (TeacherEnsemble, keras.Model)) or several:
        teachers = (
            given if isinstance(given, TeacherEnsemble) else TeacherEnsemble(given, head=head)
        )
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        labeled = y is not None or _labeled(x)
        return HeldOut(
            lambda: _computed(teachers, batches(x, y, 128, weight)), len(teachers), head, labeled
        )
    outputs = np.asarray(given, np.float32)
    labels = None if data is None else np.asarray(data)
    if outputs.ndim < 3 or (labels is not None and len(labels) != outputs.shape[1]):
        raise refusal("outputs_not_held_out", shape=str(outputs.shape))

    def read() -> Iterator[tuple[Any, Any, Any]]:
        for start in range(0, outputs.shape[1], 1024):
            rows = slice(start, start + 1024)
            yield outputs[:, rows], None if labels is None else labels[rows], None

    return HeldOut(read, len(outputs), head, labels is not None)


def of_fit(
    student: keras.Model, teachers: Any, known: tuple[Any, str, bool] | None, given: dict[str, Any]
) -> HeldOut:
    """Returns the validation data of a distiller's `fit`.

    Args:
        student: the student.
        teachers: the ensemble, or what stands for it.
        known: key and head of the distilled output; None if the first batch does not show them.
        given: the arguments of `fit`. A `validation_split` is carried out, so that there is
            `validation_data` instead.
    """
    if given.get("validation_split") and given.get("validation_data") is None:
        parts = (given["x"], given.get("y"), given.get("sample_weight"))
        parts, given["validation_data"] = split_validation(parts, given.pop("validation_split"))
        given["x"], given["y"], given["sample_weight"] = parts
    data, key = given.get("validation_data"), known and known[0]
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data) if data is not None else [None] * 3
    steps = given.get("validation_steps")
    size = given.get("validation_batch_size") or given.get("batch_size") or 32

    def read() -> Iterator[tuple[Any, Any, Any]]:
        found = itertools.islice(batches(x, y, size, weight), steps)
        total = steps or (-(-len(keras.tree.flatten(x)[0]) // size) if is_arrays(x) else None)
        shown = tqdm(
            found,
            desc="teachers on validation data",
            total=total,
            unit=" batches",
            ascii=" =",
            disable=given.get("verbose", "auto") in (0, "0"),
        )
        for outputs, labels, weights in _computed(teachers, shown):
            yield outputs, *(of_output(part, key, student) for part in (labels, weights))

    missing = None
    if data is None:
        missing = "fit has no validation_data"
    elif hasattr(x, "__next__"):
        missing = "validation_data is a generator, which can be read only once"
    elif known is None:
        missing = "the first batch could not be looked at"
    elif isinstance(teachers, CachedTeachers) and not _brings_outputs(x):
        missing = "validation_data bring no outputs of the cached teachers"
    head = "classes" if known is None else known[1]
    cached = getattr(teachers, "temperature", None)
    labeled = missing is None and (y is not None or _labeled(x))
    return HeldOut(read, len(teachers), head, labeled, cached, missing)


def _first_batch(x: Any) -> tuple[Any, Any]:
    """Returns `(x, y)` of the first batch of a data set, or what describes them."""
    spec = getattr(x, "element_spec", None)
    if spec is not None:
        return keras.utils.unpack_x_y_sample_weight(spec)[:2]
    return next(batches(x), (None, None, None))[:2]


def _labeled(x: Any) -> bool:
    return not is_arrays(x) and _first_batch(x)[1] is not None


def _brings_outputs(x: Any) -> bool:
    return bool(split_batch(x if is_arrays(x) else _first_batch(x)[0])[1])


def _computed(teachers: Any, found: Any) -> Iterator[tuple[Any, Any, Any]]:
    for x, y, weight in found:
        x, given = split_batch(x)
        if "teacher_logits" in given:
            outputs = np.moveaxis(np.asarray(given["teacher_logits"], np.float32), 1, 0)
        else:
            inputs = keras.tree.map_structure(tf.convert_to_tensor, x)
            outputs = teachers.traced_logits(inputs).numpy()
        yield outputs, y, weight

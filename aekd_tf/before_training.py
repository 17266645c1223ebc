"""What is checked before the first step: models, labels, losses, and the first batch's values."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.cache.batches import CachedTeachers, split_batch
from aekd_tf.losses.compiled import check_compiled_losses
from aekd_tf.outputs import are_probabilities, between_0_and_1, rows_sum_to_1, squashing
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.ensemble import TeacherEnsemble, frozen

# Enough to tell probabilities from logits.
ROWS = 32


def check_labels(losses: Any, student_loss_weight: float, batch: Any) -> None:
    """Refuses a student loss without a compiled loss or without labels.

    Args:
        losses: what was compiled; None without.
        student_loss_weight: 0 for a student that learns from the teachers alone.
        batch: `(x, y, sample_weight)` of the first batch; None if it is not known.
    """
    if student_loss_weight <= 0:
        return
    if not any(loss is not None for loss in keras.tree.flatten(losses)):
        raise refusal("no_loss", weight=f"{student_loss_weight:g}")
    if batch is not None and batch[1] is None:
        raise refusal("no_labels", weight=f"{student_loss_weight:g}")


def check_outputs(
    student: keras.Model,
    teachers: TeacherEnsemble | CachedTeachers,
    losses: Any,
    x: Any,
    models: bool = True,
) -> None:
    """Looks at what each model gives for the first batch, before any update.

    Args:
        student: its outputs must be logits.
        teachers: their outputs must be logits, unless the batch brings them.
        losses: what was compiled; must take logits of classes.
        x: inputs of the first batch, with or without cached outputs.
        models: whether to run the models; they need it once, losses and cached outputs may
            change from one `fit` to the next.

    Raises:
        ValueError: outputs or losses that do not fit; the message names the model.
    """
    x, given = split_batch(x)
    if models:
        x = _head(x)
        _check_student(student, x)
    check_compiled_losses(losses, student.name)
    if "teacher_logits" in given:
        cached = np.asarray(given["teacher_logits"][:ROWS])
        for index in range(cached.shape[1]):
            if are_probabilities(cached[:, index]):
                raise refusal("cached_probabilities", index=index)
    elif models and isinstance(teachers, TeacherEnsemble):
        for index, teacher in enumerate(teachers):
            _check_teacher(index, teacher, x)


def _check_student(student: keras.Model, x: Any) -> None:
    kind = squashing(student)
    if kind is None:
        try:
            outputs = student(x, training=False)
        except Exception:  # `fit` will say it, in Keras's words
            return
        check_one_output("student", student.name, outputs)
        kind = "softmax" if are_probabilities(_values(outputs)) else None
    if kind is not None:
        raise refusal("student_probabilities", name=student.name, kind=kind)


def _check_teacher(index: int, teacher: keras.Model, x: Any) -> None:
    try:
        if isinstance(teacher, TeacherAdapter):
            outputs = teacher.model_outputs(x, training=False)
        else:
            outputs = frozen(teacher, x)
    except Exception as error:  # Keras and TensorFlow have many ways to refuse inputs
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in keras.tree.flatten(x))
        raise refusal(
            "teacher_inputs", index=index, name=teacher.name, shapes=shapes, error=_reason(error)
        ) from error
    check_one_output(f"teacher {index}", teacher.name, outputs)
    values = _values(outputs)
    named = {"index": index, "name": teacher.name, "classes": values.shape[-1]}
    if isinstance(teacher, TeacherAdapter) and teacher.outputs_kind == "probabilities":
        if not between_0_and_1(values):
            raise refusal("adapter_logits", **named)
        if not rows_sum_to_1(values):
            raise refusal("teacher_sigmoid", **named)
    elif are_probabilities(values):
        raise refusal("teacher_probabilities", **named)


def check_one_output(role: str, name: str, outputs: Any) -> None:
    """Refuses a model whose output is a structure."""
    if isinstance(outputs, dict):
        raise refusal("several_outputs", role=role, name=name, outputs=list(outputs))
    if isinstance(outputs, (list, tuple)):
        shapes = [str(tuple(part.shape)) for part in keras.tree.flatten(outputs)]
        raise refusal("several_outputs", role=role, name=name, outputs=shapes)


def warn_of_own_step(student: keras.Model) -> None:
    """Says that a student's own training step is not called."""
    own = [
        name
        for name in ("train_step", "compute_loss")
        if getattr(type(student), name) is not getattr(keras.Model, name)
    ]
    if own:
        warnings.warn(
            f"student {student.name} has a {own[0]} of its own, which the distiller does not call: "
            "override it in a subclass of EnsembleDistiller",
            stacklevel=4,
        )


def _reason(error: Exception) -> str:
    """Returns the line of Keras's message that says what was wrong."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)) or repr(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Exception encountered")), lines[0])


def _values(outputs: Any) -> np.ndarray:
    """Returns outputs as an array in their own dtype."""
    return np.asarray(tf.convert_to_tensor(outputs))


def _head(x: Any) -> Any:
    def cut(part: Any) -> Any:
        return tf.convert_to_tensor(part[:ROWS])

    return keras.tree.map_structure(cut, x)

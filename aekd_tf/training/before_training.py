"""What is checked before the first step: models, labels, losses, and the first batch's values."""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.cache.batches import CachedTeachers, split_batch
from aekd_tf.keras_private import assert_compiled, make_variables
from aekd_tf.losses.base import DistillationLoss
from aekd_tf.losses.compiled import check_compiled_losses
from aekd_tf.outputs import (
    are_probabilities,
    between_0_and_1,
    of_output,
    output_key,
    picked,
    rows_sum_to_1,
    squashing,
)
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.readiness import check_separate
from aekd_tf.terms.heads import head_of
from aekd_tf.training.replicas import batch_size
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.held_out import of_fit
from aekd_tf.weightings.smoothed import Smoothed

NO_CHOICE = Weighting.prepare
# Enough to tell probabilities from logits.
ROWS = 32


class ChecksBeforeTraining(keras.Model):
    """Looks at a distiller, its models and its data before the first step."""

    # What the first batch showed: which output is distilled, its head, whether it is logits.
    _checked_outputs: tuple[Any, str, bool] | None = None

    def _check_before_training(self, batch: Any) -> None:
        """Refuses what would train wrongly, and makes the variables of the first step.

        Args:
            batch: `(x, y, sample_weight)` of the first batch; None if it is not known.

        Raises:
            ValueError: what does not fit; the message names the model or the loss.
        """
        assert_compiled(self, "fit")
        check_separate(self.student, self._teacher_models())
        teachers = self.teachers
        check_labels(self.loss, self.student_loss_weight, batch)
        if batch is None:
            return
        first = self._checked_outputs is None
        if first:
            warn_of_own_step(self.student)
        with self.distribute_strategy.scope():
            self._checked_outputs = check_outputs(
                self.student,
                teachers,
                self._outputs_term.loss,
                self.loss,
                batch,
                self._output_name,
                self._checked_outputs,
            )
            self._build_for(split_batch(batch[0])[0])
            make_variables(self, batch)
        if first and self._checked_outputs is not None:
            self._check_weights(batch)

    def _choose_weights(self, given: dict[str, Any]) -> None:
        """Lets the weightings choose weights on the validation data of `fit`.

        `given` are the arguments of `fit`.
        """
        choosing = [each for each in self._weightings() if type(each).prepare is not NO_CHOICE]
        if not choosing:
            return
        held_out = of_fit(self.student, self.teachers, self._checked_outputs, given)
        changed = [each.prepare(held_out) for each in choosing]
        if given.get("verbose", "auto") not in (0, "0"):
            for choice in filter(None, (each.choice for each in choosing)):
                print(f"weighting {choice}", file=sys.stderr)
        if any(changed):  # what was traced has other weights
            self.train_function = self.test_function = None
            self._test_functions.clear()

    def _check_weights(self, batch: Any) -> None:
        """Looks at the values of weights of the user's own, on the first batch."""
        terms = [self._outputs_term, *self._feature_terms]
        terms = [term for term in terms if term.weighting is not None]
        own = [term for term in terms if not is_ours(term.weighting)]
        if not own:
            return
        x, y, sample_weight = head_of_batch(batch)
        x, given = split_batch(x)
        of_teachers = self._teacher_outputs(x, given)
        y_pred, maps = self._student_outputs(x, training=False)
        count = tf.cast(batch_size(x), tf.float32)
        for term in own:
            term.checking = True
        try:
            known = self._batch(of_teachers, y, y_pred, sample_weight, count, None)
            self._term_losses(known, of_teachers, y_pred, maps)
        finally:
            for term in own:
                term.checking = False


def is_ours(weighting: Weighting) -> bool:
    """Returns whether a weighting, with what it smooths, is of this package."""
    ours = type(weighting).__module__.startswith("aekd_tf.")
    return ours and (not isinstance(weighting, Smoothed) or is_ours(weighting.weighting))


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
    loss: DistillationLoss,
    compiled: Any,
    batch: Any,
    output: Any = None,
    known: tuple[Any, str, bool] | None = None,
) -> tuple[Any, str, bool] | None:
    """Looks at what each model gives for the first batch, before any update.

    Args:
        student: its outputs must be what the loss takes.
        teachers: likewise, unless the batch brings their outputs.
        loss: the distillation loss.
        compiled: what was compiled; the loss of the distilled output must fit as well.
        batch: `(x, y, sample_weight)` of the first batch, with or without cached outputs.
        output: name or index of the student's output that is distilled.
        known: what an earlier call returned. The models then need not run; losses and cached
            outputs may have changed.

    Returns:
        The key of the distilled output, its head, and whether it is logits; None if the student
        cannot take the batch.

    Raises:
        ValueError: outputs or losses that do not fit; the message names the model.
    """
    x, given = split_batch(batch[0])
    first = known is None
    if known is None:
        x = head_of_batch(x)
        try:
            outputs = student(x, training=False)
        except Exception:  # `fit` will say it, in Keras's words
            return None
        known = _looked_at(student, outputs, loss, batch[1], output)
    key, head, logits = known
    check_compiled_losses(_loss_of_output(compiled, key, student), student.name, head, logits)
    if "teacher_logits" in given:
        cached = np.asarray(given["teacher_logits"][:ROWS])
        for index in range(cached.shape[1] if loss.takes_logits else 0):
            if are_probabilities(cached[:, index]):
                raise refusal("cached_probabilities", index=index)
    elif first and isinstance(teachers, TeacherEnsemble):
        for index in range(len(teachers)):
            _check_teacher(index, teachers, x, head, loss.takes_logits)
    if first and isinstance(teachers, TeacherEnsemble):
        teachers.settle(loss.name, head)
    return known


def _looked_at(
    student: keras.Model, outputs: Any, loss: DistillationLoss, labels: Any, output: Any
) -> tuple[Any, str, bool]:
    """Returns the key of the distilled output, its head, and whether it is logits."""
    key = output_key("student", student, outputs, output)
    values = _values(picked(outputs, key))
    labels = of_output(labels, key, student)
    head = head_of(loss, labels, values.shape[-1] if values.ndim > 1 else 1)
    if loss.takes_logits:
        kind = squashing(student, key) or ("softmax" if are_probabilities(values) else None)
        if kind is not None:
            raise refusal("student_probabilities", name=student.name, kind=kind)
        return key, head, True
    return key, head, head == "classes" and not are_probabilities(values)


def _loss_of_output(compiled: Any, key: Any, student: keras.Model) -> Any:
    several = isinstance(compiled, (dict, list, tuple))
    return of_output(compiled, key, student) if several else compiled


def _check_teacher(
    index: int, teachers: TeacherEnsemble, x: Any, head: str, takes_logits: bool
) -> None:
    teacher = teachers[index]
    adapted = isinstance(teacher, TeacherAdapter)
    try:
        outputs = teachers.raw_outputs(index, x)
    except Exception as error:  # Keras and TensorFlow have many ways to refuse inputs
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in keras.tree.flatten(x))
        raise refusal(
            "teacher_inputs", index=index, name=teacher.name, shapes=shapes, error=_reason(error)
        ) from error
    if isinstance(outputs, (dict, list, tuple)):
        output_key(f"teacher {index}", teacher, outputs, None)
    values = _values(outputs)
    named = {"index": index, "name": teacher.name, "classes": values.shape[-1]}
    if adapted and teacher.outputs_kind == "probabilities":
        if not between_0_and_1(values):
            raise refusal("adapter_logits", **named)
        if head == "classes" and not rows_sum_to_1(values):
            raise refusal("teacher_sigmoid", **named)
        if head == "labels" and teacher.ending != "sigmoid":
            raise refusal("teacher_hidden_sigmoid", **named)
    elif takes_logits and are_probabilities(values):
        raise refusal("teacher_probabilities", **named)


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


def head_of_batch(x: Any) -> Any:
    """Returns the first rows of a batch's inputs, labels or weights."""

    def cut(part: Any) -> Any:
        return part if part is None else tf.convert_to_tensor(part[:ROWS])

    return keras.tree.map_structure(cut, x)

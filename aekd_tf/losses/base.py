"""The base of distillation losses, which compare a student's outputs with a teacher's."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf

from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.refusals import refusal


class DistillationLoss:
    """Compares a student's outputs with a teacher's; a subclass overrides `call`.

    It is the base of all distillation losses, `distillation_loss=` of an `EnsembleDistiller`.

    Attributes:
        name: what messages call it.
        head: `"classes"`, `"labels"` or `"regression"` if the loss fits only such outputs;
            None if it fits several.
        takes_logits: whether probabilities in place of logits would train wrongly.
        masks: whether classes that a teacher does not know can be left out.
        needs_labels: whether `call` reads labels.
        broadcasts: whether `call` also takes `[M, B, ..., K]` for M teachers at once.

    Example::

        import keras
        import tensorflow as tf
        from aekd_tf import DistillationLoss

        class Huber(DistillationLoss):
            def call(self, teacher_outputs, student_outputs):
                return keras.losses.huber(teacher_outputs, student_outputs)

        teachers, student = tf.zeros([2, 4, 3]), tf.ones([4, 3])  # 2 teachers, 4 examples
        print(Huber().per_teacher(teachers, student, temperature=1.0).shape)  # (2, 4)
    """

    head: str | None = None
    takes_logits: bool = False
    masks: bool = False
    needs_labels: bool = False
    broadcasts: bool = False

    @property
    def name(self) -> str:
        return type(self).__name__

    def call(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        """Returns the loss of each example.

        A subclass defines `call(self, teacher_outputs, student_outputs)`, and further arguments
        `temperature` and `labels` if it reads them.

        Args:
            teacher_outputs: `[B, ..., K]` float32, of one teacher.
            student_outputs: `[B, ..., K]` float32.
            temperature: T, the distiller's.
            labels: as the batch brings them; None without labels.

        Returns:
            `[B]` or `[B, ...]`; the mean over what follows the batch axis is taken.
        """
        raise NotImplementedError

    def per_teacher(
        self,
        teacher_outputs: tf.Tensor,
        student_outputs: tf.Tensor,
        temperature: Any,
        labels: Any = None,
        mask: Any = None,
    ) -> tf.Tensor:
        """Returns the losses `[M, B]`, float32, of M teachers.

        Args:
            teacher_outputs: `[M, B, ..., K]`.
            student_outputs: `[M, B, ..., K]`, or `[B, ..., K]` for all teachers.
            temperature: T.
            labels: of the batch, or None.
            mask: `[B, ...]`, zero at the positions that do not count; None if all count.

        Raises:
            ValueError: labels that are missing, or a result without the batch axis.
        """
        teacher_outputs = tf.convert_to_tensor(teacher_outputs)
        student_outputs = tf.convert_to_tensor(student_outputs)
        if self.needs_labels:
            if labels is None:
                raise refusal("loss_needs_labels", loss=self.name)
            labels = self.read_labels(labels, teacher_outputs.shape[1:])
        options = {"temperature": temperature, "labels": labels}
        taken = inspect.signature(self.call).parameters
        options = {name: value for name, value in options.items() if name in taken}
        if self.broadcasts:
            losses = self.call(teacher_outputs, student_outputs, **options)
        else:
            teachers = tf.unstack(teacher_outputs)
            several = student_outputs.shape.rank == teacher_outputs.shape.rank
            students = tf.unstack(student_outputs) if several else [student_outputs] * len(teachers)
            each = [
                self.call(teacher, student, **options)
                for teacher, student in zip(teachers, students, strict=True)
            ]
            losses = tf.stack([_checked(self.name, loss, teachers[0].shape) for loss in each])
        return mean_over_positions(tf.cast(losses, tf.float32), mask)

    def read_labels(self, labels: Any, outputs: tf.TensorShape) -> Any:
        """Returns the batch's labels as `call` takes them, for outputs `[B, ..., K]`."""
        return labels

    def combined(
        self,
        weights: tf.Tensor,
        losses: tf.Tensor,
        teacher_outputs: tf.Tensor,
        student_outputs: tf.Tensor,
        temperature: Any,
        mask: Any = None,
    ) -> tf.Tensor:
        """Returns one loss per example, `[B]`, of all teachers by their weights.

        Args:
            weights: `[M]` or `[M, B]`.
            losses: `[M, B]`, from `per_teacher`.
            teacher_outputs, student_outputs, temperature, mask: as for `per_teacher`.
        """
        if weights.shape.rank == 1:
            return tf.tensordot(weights, losses, 1)
        return tf.reduce_sum(weights * losses, 0)

    __repr__ = repr_of

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistillationLoss:
        return cls(**config)


def mean_over_positions(losses: tf.Tensor, mask: Any = None) -> tf.Tensor:
    """Returns `[M, B]`: the mean of `losses [M, B, ...]` over each example's own positions.

    `mask [B, ...]` is zero at the positions that do not count. An example without any has loss 0.
    """
    axes = list(range(2, losses.shape.rank))
    if not axes:
        return losses
    if mask is None:
        return tf.reduce_mean(losses, axes)
    mask = tf.cast(tf.cast(mask, tf.bool), tf.float32)
    while mask.shape.rank < losses.shape.rank - 1:
        mask = mask[..., None]
    total = tf.reduce_sum(mask * losses, axes)
    count = tf.reduce_sum(tf.broadcast_to(mask, tf.shape(losses)[1:]), [axis - 1 for axis in axes])
    return tf.math.divide_no_nan(total, count)


def _checked(name: str, losses: Any, outputs: tf.TensorShape) -> tf.Tensor:
    losses = tf.convert_to_tensor(losses)
    shape = losses.shape
    if shape.rank == 0 or not tf.TensorShape(shape[:1]).is_compatible_with(outputs[:1]):
        raise refusal("loss_without_batch", loss=name, shape=str(tuple(shape)))
    return losses

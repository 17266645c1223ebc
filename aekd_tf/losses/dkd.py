"""Decoupled knowledge distillation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_number
from aekd_tf.losses.base import DistillationLoss
from aekd_tf.losses.kl import check_several_classes
from aekd_tf.refusals import refusal


@keras.saving.register_keras_serializable("aekd_tf")
class DKD(DistillationLoss):
    """Computes decoupled distillation, which requires labels (`"dkd"`).

    The loss of an example is::

        T^2 (target_weight * TCKD + non_target_weight * NCKD)

    TCKD is the KL of "the label's class or another", NCKD the KL over the other classes alone.
    The KL divergence of all classes is TCKD + (1 - p_t) NCKD, with p_t the teacher's probability
    of the label: a sure teacher hides what it knows of the other classes.

    Args:
        target_weight: alpha of the paper, at least 0.
        non_target_weight: beta of the paper, at least 0.

    Raises:
        ValueError: a negative weight; in training, no labels.

    Example::

        import tensorflow as tf
        from aekd_tf import losses

        teachers = tf.constant([[[2.0, 1.0, 0.0]]])  # 1 teacher, 1 example, 3 classes
        student, labels = tf.constant([[2.0, 0.0, 1.0]]), tf.constant([0])
        loss = losses.DKD(non_target_weight=2.0).per_teacher(teachers, student, 1.0, labels)
        print(loss[:, 0].numpy().round(2))  # [0.92]

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022.
    """

    name = "dkd"
    head = "classes"
    takes_logits = True
    masks = True
    needs_labels = True
    broadcasts = True

    def __init__(self, target_weight: float = 1.0, non_target_weight: float = 8.0):
        self.target_weight = check_number("target_weight", target_weight)
        self.non_target_weight = check_number("non_target_weight", non_target_weight)

    def read_labels(self, labels: Any, outputs: tf.TensorShape) -> tf.Tensor:
        return one_hot(labels, outputs)

    def call(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: Any, labels: Any
    ) -> tf.Tensor:
        """Returns the losses; `labels` are one-hot rows `[B, ..., K]`."""
        check_several_classes(self.name, teacher_outputs)
        target = labels > 0.5
        teacher = _parts(teacher_outputs / temperature, target)
        student = _parts(student_outputs / temperature, target)
        tckd, nckd = (
            tf.reduce_sum(tf.exp(t) * (t - s), -1) for t, s in zip(teacher, student, strict=True)
        )
        return temperature**2 * (self.target_weight * tckd + self.non_target_weight * nckd)

    def get_config(self) -> dict[str, Any]:
        return {"target_weight": self.target_weight, "non_target_weight": self.non_target_weight}


def _parts(logits: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns log-probabilities: of target and rest `[..., 2]`, of the others `[..., K]`.

    The second is 0 at the target, for teacher and student alike.
    """
    target = tf.broadcast_to(target, tf.shape(logits))
    others = tf.where(target, logits.dtype.min / 2, logits)
    rest = tf.reduce_logsumexp(others, -1)
    of_target = tf.reduce_sum(tf.where(target, logits, 0.0), -1)
    both = tf.nn.log_softmax(tf.stack([of_target, rest], -1))
    return both, tf.where(target, 0.0, others - rest[..., None])


def one_hot(labels: Any, outputs: tf.TensorShape) -> tf.Tensor:
    """Returns labels as `[B, ..., K]` float32, for outputs of that shape.

    Args:
        labels: integers `[B, ...]`, also `[B, ..., 1]`, or one-hot rows `[B, ..., K]`.
        outputs: shape of the outputs of one model.

    Raises:
        ValueError: labels that are neither.
    """
    labels = tf.convert_to_tensor(labels)
    classes, rank = outputs[-1], labels.shape.rank
    if rank == outputs.rank and labels.shape[-1] == classes:
        return tf.cast(labels, tf.float32)
    if labels.dtype.is_integer and rank == outputs.rank and labels.shape[-1] == 1:
        labels, rank = tf.squeeze(labels, -1), outputs.rank - 1
    if labels.dtype.is_integer and rank == outputs.rank - 1:
        return tf.one_hot(labels, classes)
    raise refusal(
        "labels_not_classes",
        dtype=labels.dtype.name,
        shape=str(tuple(labels.shape)),
        classes=classes,
    )

"""The softened Kullback-Leibler divergence, per example, in float32 whatever the compute dtype."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss
from aekd_tf.refusals import refusal


def distillation_loss(
    teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
    r"""Computes the softened Kullback-Leibler divergence of Eq. 1, scaled by T^2.

    The loss of an example is::

        T^2 * KL(softmax(a_t / T) || softmax(a_s / T))

    It differs from the cross-entropy of Eq. 1 by the teacher's entropy, which has no gradient.
    It also has the T^2 of Hinton et al. and of the authors' code, which keeps the gradient's
    size when T changes. The teacher weights do not depend on either. Saturated logits keep
    their gradient, because the loss is computed from `log_softmax`.

    Args:
        teacher_logits: `[..., B, K]`, any float dtype.
        student_logits: broadcastable to the teacher's, e.g. `[B, K]` against `[M, B, K]`.
        temperature: T > 0; the softness of both distributions.

    Returns:
        `[..., B]` float32, at least 0 up to rounding, one value per example.

    Example::

        from aekd_tf import distillation_loss

        teacher, student = [[2.0, 0.0], [2.0, 0.0]], [[2.0, 0.0], [0.0, 2.0]]  # 2 examples
        print(distillation_loss(teacher, student, temperature=4.0).numpy().round(2))  # [0.   1.96]

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)


@keras.saving.register_keras_serializable("aekd_tf")
class KL(DistillationLoss):
    """Computes the softened KL divergence of classes, `distillation_loss` (`"kl"`, Eq. 1).

    Raises:
        ValueError: in training, outputs of one class.

    Example::

        import numpy as np
        from aekd_tf import losses

        teacher, student = np.float32([[2.0, 0.0]]), np.float32([[0.0, 2.0]])  # 1 example
        print(losses.KL().call(teacher, student, temperature=4.0).numpy().round(2))  # [1.96]
    """

    name = "kl"
    head = "classes"
    takes_logits = True
    masks = True
    broadcasts = True

    def call(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: Any
    ) -> tf.Tensor:
        check_several_classes(self.name, teacher_outputs)
        return distillation_loss(teacher_outputs, student_outputs, temperature)


def check_several_classes(loss: str, outputs: tf.Tensor) -> None:
    """Refuses a softmax over one class, which has no gradient."""
    if outputs.shape[-1] == 1:
        raise refusal("one_class", loss=loss)

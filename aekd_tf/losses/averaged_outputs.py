"""The distillation loss against the mean of the teachers' softened outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.losses.base import mean_over_positions
from aekd_tf.losses.kl import KL, distillation_loss


@keras.saving.register_keras_serializable("aekd_tf")
class AveragedOutputs(KL):
    """Computes one softened KL against the teachers' weighted mean (`"averaged_outputs"`, Eq. 2).

    The loss of an example is::

        T^2 * KL(sum_m w_m softmax(a_m / T) || softmax(a_s / T))

    It has the gradient of the weighted `"kl"` losses (Proposition 1). Weightings see the losses
    of `"kl"`.

    Raises:
        ValueError: in training, outputs of one class.

    Example::

        import tensorflow as tf
        from aekd_tf import losses

        teachers = tf.constant([[[2.0, 0.0]], [[0.0, 2.0]]])  # 2 teachers, 1 example
        weights, student = tf.constant([0.5, 0.5]), tf.constant([[0.0, 0.0]])
        loss = losses.AveragedOutputs()
        each = loss.per_teacher(teachers, student, 1.0)
        print(each[:, 0].numpy().round(2))  # [0.33 0.33]
        print(loss.combined(weights, each, teachers, student, 1.0).numpy())  # [0.]
    """

    name = "averaged_outputs"
    masks = False  # the mean would have no probability for a class that one does not know

    def combined(
        self,
        weights: tf.Tensor,
        losses: tf.Tensor,
        teacher_outputs: tf.Tensor,
        student_outputs: tf.Tensor,
        temperature: Any,
        mask: Any = None,
    ) -> tf.Tensor:
        outputs = tf.nn.softmax(tf.cast(teacher_outputs, tf.float32) / temperature)
        mean = tf.maximum(_weighted(weights, outputs), np.finfo(np.float32).tiny)
        loss = distillation_loss(temperature * tf.math.log(mean), student_outputs, temperature)
        return tf.reduce_sum(weights, 0) * mean_over_positions(loss[None], mask)[0]


def _weighted(weights: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the sum over teachers of `outputs [M, B, ..., K]` by `weights` `[M]` or `[M, B]`."""
    if weights.shape.rank == 1:
        return tf.tensordot(weights, outputs, 1)
    while weights.shape.rank < outputs.shape.rank:
        weights = weights[..., None]
    return tf.reduce_sum(weights * outputs, 0)

"""The softened KL divergence of independent labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss


@keras.saving.register_keras_serializable("aekd_tf")
class BinaryKL(DistillationLoss):
    """Computes the softened KL divergence of K independent labels (`"binary_kl"`).

    The loss of an example is T^2 times the mean over the labels::

        T^2 / K * sum_k KL(sigmoid(a_t / T) || sigmoid(a_s / T))

    Outputs are logits of independent labels; one logit, `[B, 1]`, is the case K = 1. The mean
    over the labels is that of Keras's `BinaryCrossentropy`.

    Example::

        import numpy as np
        from aekd_tf import losses

        teacher, student = np.float32([[2.0, 0.0]]), np.float32([[0.0, 2.0]])  # 1 example
        print(losses.BinaryKL().call(teacher, student, temperature=1.0).numpy().round(2))  # [0.38]
    """

    name = "binary_kl"
    head = "labels"
    takes_logits = True
    broadcasts = True

    def call(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: Any
    ) -> tf.Tensor:
        teacher, student = teacher_outputs / temperature, student_outputs / temperature
        on = tf.sigmoid(teacher) * (tf.math.softplus(-student) - tf.math.softplus(-teacher))
        off = tf.sigmoid(-teacher) * (tf.math.softplus(student) - tf.math.softplus(teacher))
        return temperature**2 * tf.reduce_mean(on + off, -1)

"""The softened KL divergence of independent labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss


@keras.saving.register_keras_serializable("aekd_tf")
class BinaryKL(DistillationLoss):
    """`"binary_kl"`: T^2 times the mean over K labels of the KL of two Bernoulli distributions.

        T^2 / K * sum_k KL(sigmoid(a_t / T) || sigmoid(a_s / T))

    Outputs are logits of independent labels; one logit, `[B, 1]`, is the case K = 1. The mean
    over the labels is that of Keras's `BinaryCrossentropy`.
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

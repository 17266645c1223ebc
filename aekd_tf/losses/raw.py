"""Losses that compare outputs as they are: squared and cosine distances."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss


@keras.saving.register_keras_serializable("aekd_tf")
class MSE(DistillationLoss):
    """`"mse"`: the mean over the last axis of the squared difference of the outputs, without T."""

    name = "mse"
    broadcasts = True

    def call(self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(teacher_outputs - student_outputs), -1)


@keras.saving.register_keras_serializable("aekd_tf")
class Cosine(DistillationLoss):
    """`"cosine"`: 1 - the cosine between the outputs, from 0 to 2, without T."""

    name = "cosine"
    broadcasts = True

    def call(self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor) -> tf.Tensor:
        teacher = tf.math.l2_normalize(teacher_outputs, -1)
        return 1.0 - tf.reduce_sum(teacher * tf.math.l2_normalize(student_outputs, -1), -1)

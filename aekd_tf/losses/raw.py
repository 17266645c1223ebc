"""Losses that compare outputs as they are: squared and cosine distances."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss


@keras.saving.register_keras_serializable("aekd_tf")
class MSE(DistillationLoss):
    """Computes the mean over the last axis of the squared difference, without T (`"mse"`).

    Example::

        import numpy as np
        from aekd_tf import losses

        teacher, student = np.float32([[2.0, 0.0]]), np.float32([[0.0, 2.0]])  # 1 example
        print(losses.MSE().call(teacher, student).numpy())  # [4.]
    """

    name = "mse"
    broadcasts = True

    def call(self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(teacher_outputs - student_outputs), -1)


@keras.saving.register_keras_serializable("aekd_tf")
class Cosine(DistillationLoss):
    """Computes 1 - the cosine between the outputs, from 0 to 2, without T (`"cosine"`).

    Example::

        import numpy as np
        from aekd_tf import losses

        teacher, student = np.float32([[2.0, 0.0]]), np.float32([[0.0, 2.0]])  # 1 example
        print(losses.Cosine().call(teacher, student).numpy())  # [1.]
    """

    name = "cosine"
    broadcasts = True

    def call(self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor) -> tf.Tensor:
        teacher = tf.math.l2_normalize(teacher_outputs, -1)
        return 1.0 - tf.reduce_sum(teacher * tf.math.l2_normalize(student_outputs, -1), -1)

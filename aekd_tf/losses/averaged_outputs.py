"""The distillation loss against the mean of the teachers' softened outputs."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.losses.kl import distillation_loss


def averaged_outputs_loss(
    teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float, weights: tf.Tensor
) -> tf.Tensor:
    """Computes `distillation_loss` against the mean of the teachers' softened outputs (Eq. 2).

    Args:
        teacher_logits: `[M, B, K]`.
        student_logits: `[B, K]`.
        temperature: T > 0.
        weights: `[M]`, weights of the mean: equal, and 0 for a teacher that is left out.

    Returns:
        `[B]` float32; zero if all weights are zero.
    """
    outputs = tf.nn.softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    mean = tf.tensordot(weights, outputs, 1)
    mean = tf.maximum(mean, np.finfo(np.float32).tiny)
    loss = distillation_loss(temperature * tf.math.log(mean), student_logits, temperature)
    return tf.reduce_sum(weights) * loss

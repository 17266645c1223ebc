"""The distillation loss, per example, in float32 whatever the compute dtype."""

from __future__ import annotations

import tensorflow as tf


def distillation_loss(
    teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
    r"""Computes the softened Kullback-Leibler divergence of Eq. 1, scaled by T^2.

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

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)


def check_classes(student: str, logits: tf.Tensor, teacher_logits: tf.Tensor) -> None:
    """Raises ValueError unless `logits [B, K]` and `teacher_logits [M, B, K]` fit each other."""
    if logits.shape.rank != 2 or logits.shape[-1] != teacher_logits.shape[-1]:
        raise ValueError(
            f"student {student} gives {tuple(logits.shape)}, its teachers give "
            f"{tuple(teacher_logits.shape[1:])}: both must be logits [batch, classes] of the "
            "same classes"
        )

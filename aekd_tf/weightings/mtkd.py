"""The closed-form part of MTKD-RL: confidence in the label, and distance from the student."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.outputs import UNKNOWN
from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.ca_mkd import confidence_aware
from aekd_tf.weightings.confidence import log_softmax, softmax_among


@keras.saving.register_keras_serializable("aekd_tf")
class MTKDWeighting(Weighting):
    """Averages the weights of CA-MKD and weights by distance from the student (`"mtkd"`).

    The weight of teacher k on example x is::

        w_k(x) = 1/2 w_k^CA-MKD(x) + 1/2 softmax_k KL(p_k || p_student)

    The divergence is that at the distiller's temperature T, without the factor T^2. This is the
    closed-form start of MTKD-RL, whose agent, trained by reinforcement, is not part of it.

    The second half prefers teachers that differ from the student, for good or bad reasons: a
    teacher that is confident and wrong differs most. The first half is CA-MKD's, with its limits.

    Raises:
        ValueError: in training, no labels, or outputs that are not classes.

    Example::

        import numpy as np
        from aekd_tf import MTKDWeighting, Signals

        signals = Signals(
            live=np.ones(2, bool),
            teacher_outputs=np.array([[[2.0, 0.0]], [[0.0, 2.0]]]),  # 2 teachers, 1 example
            student_outputs=np.array([[0.0, 0.0]]),
            labels=np.array([0]),
            temperature=4.0,
        )
        weights, diagnostics = MTKDWeighting()(signals)
        print(weights[:, 0].numpy().round(2))  # [0.69 0.31]

    Reference:
        Yang et al., "Multi-Teacher Knowledge Distillation with Reinforcement Learning for Visual
        Recognition", AAAI 2025.
    """

    shared = True
    reads_at = 1.0
    needs = ("teacher_outputs", "student_outputs", "labels", "temperature", "sample_weight")

    def weights(self, signals: Signals) -> tf.Tensor:
        by_label = confidence_aware(signals, "mtkd")
        return (by_label + softmax_among(divergences(signals), signals.live)) / 2


def divergences(signals: Signals) -> tf.Tensor:
    """Returns `KL(teacher || student)` at T, `[M, B]`, over the classes that a teacher knows."""
    outputs = signals.teacher_outputs
    student = tf.where(outputs > UNKNOWN / 2, signals.student_outputs[None], outputs)
    teacher, student = (log_softmax(z / signals.temperature) for z in (outputs, student))
    return signals.position_mean(tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1))

"""EBKD: per-example weights by the teachers' entropy, without labels."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting, uniform_among
from aekd_tf.weightings.confidence import all_but, entropies


@keras.saving.register_keras_serializable("aekd_tf")
class EBKDWeighting(Weighting):
    """Trusts, per example, the teachers that are sure of their answer, without labels (`"ebkd"`).

    The weight of teacher k on example x is::

        w_k(x) = (1 - H_k(x) / sum_j H_j(x)) / (M - 1)

    `H_k(x)` is the entropy of teacher k's softmax at T = 1, and M counts the live teachers. If
    all entropies are zero, the weights are equal.

    It takes certainty for knowledge: a teacher that is confident and wrong gets the most weight.
    No weight exceeds 1 / (M - 1).

    Raises:
        ValueError: in training, outputs that are not classes.

    Example::

        import numpy as np
        from aekd_tf import EBKDWeighting, Signals

        outputs = np.array([[[5.0, 0.0]], [[1.0, 0.0]]])  # 2 teachers, 1 example, 2 classes
        signals = Signals(live=np.ones(2, bool), teacher_outputs=outputs)
        weights, diagnostics = EBKDWeighting()(signals)
        print(weights[:, 0].numpy().round(2))  # [0.94 0.06]

    Reference:
        Kwon et al., "Adaptive Knowledge Distillation Based on Entropy", ICASSP 2020.
    """

    shared = True
    reads_at = 1.0
    needs = ("teacher_outputs", "sample_weight")

    def weights(self, signals: Signals) -> tf.Tensor:
        entropy = tf.where(signals.live[:, None], entropies(signals, "ebkd"), 0.0)
        total = tf.reduce_sum(entropy, 0)
        shares = tf.math.divide_no_nan(entropy, total)
        return all_but(
            tf.where(total > 0, shares, uniform_among(signals.live)[:, None]), signals.live
        )

"""CA-MKD: per-example weights by the teachers' confidence in the label."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.confidence import all_but, check_head, cross_entropies, softmax_among


@keras.saving.register_keras_serializable("aekd_tf")
class CAMKDWeighting(Weighting):
    """Trusts, per example, the teachers that give its label a high probability (`"ca_mkd"`).

    The weight of teacher k on example x is::

        w_k(x) = (1 - softmax_k CE_k(x)) / (M - 1)

    `CE_k(x)` is teacher k's cross-entropy with the label at T = 1, and M counts the live
    teachers. The authors' code divides the loss by M once more. Here the weights sum to 1, so
    that all weightings are compared at equal strength.

    No weight exceeds 1 / (M - 1): one good teacher among bad ones is hardly preferred. If labels
    are wrong, it prefers the teachers that have memorized them.

    Raises:
        ValueError: in training, no labels, or outputs that are not classes.

    Example::

        import numpy as np
        from aekd_tf import CAMKDWeighting, Signals

        outputs = np.array([[[2.0, 0.0]], [[0.0, 2.0]]])  # 2 teachers, 1 example, 2 classes
        signals = Signals(live=np.ones(2, bool), teacher_outputs=outputs, labels=np.array([0]))
        weights, diagnostics = CAMKDWeighting()(signals)
        print(weights[:, 0].numpy().round(2))  # [0.88 0.12]

    Reference:
        Zhang et al., "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022.
    """

    shared = True
    reads_at = 1.0
    needs = ("teacher_outputs", "labels", "sample_weight")

    def weights(self, signals: Signals) -> tf.Tensor:
        return confidence_aware(signals, "ca_mkd")


def confidence_aware(signals: Signals, name: str) -> tf.Tensor:
    """Returns CA-MKD's weights `[M, B]`; messages call the weighting `name`."""
    check_head(signals, name, ("classes",))
    return all_but(softmax_among(cross_entropies(signals, name), signals.live), signals.live)

"""Weights by the teachers' cross-entropy with the labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.confidence import cross_entropies, softmax_among


@keras.saving.register_keras_serializable("aekd_tf")
class CrossEntropyWeighting(Weighting):
    """Weights teachers by a softmax of minus their cross-entropy with labels (`"cross_entropy"`).

    The weight of teacher k is::

        w_k = exp(-CE_k) / sum_j exp(-CE_j)

    `CE_k` is teacher k's cross-entropy at T = 1, by default the mean over the batch. It is the
    simplest weighting that reads the labels. Independent labels take the mean of their sigmoid
    cross-entropies.

    It fails for teachers that have memorized wrong labels: these have the smallest
    cross-entropy. It knows nothing of duplicates, which count as often as they occur. The batch's
    mean gives a specialist one weight for all classes, and a single confident error costs much.

    Args:
        per_example: whether each example has weights of its own, from its own cross-entropies.

    Raises:
        ValueError: in training, no labels, or outputs that are neither classes nor labels.

    Example::

        import numpy as np
        from aekd_tf import CrossEntropyWeighting, Signals

        outputs = np.array([[[2.0, 0.0]], [[0.0, 2.0]]])  # 2 teachers, 1 example, 2 classes
        signals = Signals(live=np.ones(2, bool), teacher_outputs=outputs, labels=np.array([0]))
        weights, diagnostics = CrossEntropyWeighting()(signals)
        print(weights.numpy().round(2))  # [0.88 0.12]

    Reference:
        A softmax of minus a loss weights experts in Freund and Schapire, "A Decision-Theoretic
        Generalization of On-Line Learning", Journal of Computer and System Sciences 1997.
    """

    shared = True
    reads_at = 1.0
    needs = ("teacher_outputs", "labels", "sample_weight")

    def __init__(self, per_example: bool = False):
        self.per_example = per_example

    def weights(self, signals: Signals) -> tf.Tensor:
        losses = cross_entropies(signals, "cross_entropy")
        if not self.per_example:
            losses = signals.batch_mean(losses)
        return softmax_among(-losses, signals.live)

    def get_config(self) -> dict[str, Any]:
        return {"per_example": self.per_example}

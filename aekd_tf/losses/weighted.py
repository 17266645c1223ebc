"""The teachers' losses as one, by the weights that a weighting finds."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aekd_tf.weightings.base import Weighting


def weighted_loss(
    losses: tf.Tensor, gram: tf.Tensor, live: tf.Tensor, weighting: Weighting, tracker: Any = None
) -> tf.Tensor:
    """Returns the teachers' losses `[M]` summed with the weights that follow from `gram`.

    Args:
        losses: `[M]`, of this replica.
        gram: `[M, M]`, of the global batch.
        live: `[M]` bool; the others get no weight.
        weighting: what finds the weights.
        tracker: `TeacherWeights` that reports them; None reports nothing.
    """
    weights, gap = weighting.among(gram, live)
    weights = tf.stop_gradient(weights)
    if tracker is not None:
        tracker.update_state(weights, gap, gram, live)
    return tf.tensordot(weights, losses, 1)

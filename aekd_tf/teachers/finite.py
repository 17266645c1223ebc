"""Blanks the outputs of teachers that are not finite, so that they can be left out."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def zero_unless_finite(outputs: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Replaces each of M outputs that has an infinity or a NaN by zeros.

    Returns:
        The M outputs, and `live [M]` bool, false for each that was replaced; on this replica
        alone.
    """
    live = [tf.reduce_all(tf.math.is_finite(output)) for output in outputs]
    finite_outputs = [
        tf.where(finite, output, tf.zeros_like(output))
        for finite, output in zip(live, outputs, strict=True)
    ]
    return finite_outputs, tf.stack(live)

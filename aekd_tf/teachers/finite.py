"""Blanks the outputs of teachers that are not finite, so that they can be left out."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from aekd_tf.training.replicas import summed


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


def zero_unless_live(
    groups: Sequence[Sequence[tf.Tensor]],
) -> list[tuple[list[tf.Tensor], tf.Tensor]]:
    """Zeroes a teacher's outputs on all replicas when they are not finite on one of them.

    Args:
        groups: kinds of outputs, each with one tensor per teacher.

    Returns:
        Per kind, the outputs and `[M]` bool, equal on all replicas: which teachers are live.
    """
    checked = [zero_unless_finite(group) for group in groups]
    failures = summed(tf.cast(tf.stack([~live for _, live in checked]), tf.float32))
    results = []
    for (outputs, _), live in zip(checked, tf.unstack(failures == 0), strict=True):
        everywhere = [
            tf.where(alive, output, tf.zeros_like(output))
            for alive, output in zip(tf.unstack(live), outputs, strict=True)
        ]
        results.append((everywhere, live))
    return results

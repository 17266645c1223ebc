"""Teachers whose outputs are not finite are left out of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def finite_or_absent(outputs: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Zeros in place of each of M outputs that has an infinity or a NaN, and who has none.

    Returns:
        The outputs, and `[M]` bool, of this replica's.
    """
    live = [tf.reduce_all(tf.math.is_finite(output)) for output in outputs]
    kept = [
        tf.where(finite, output, tf.zeros_like(output))
        for finite, output in zip(live, outputs, strict=True)
    ]
    return kept, tf.stack(live)

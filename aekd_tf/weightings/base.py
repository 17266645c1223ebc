"""A weighting turns the Gram matrix of the teachers' gradients into teacher weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Weighting:
    """Base of all weightings; subclass it to try one of your own.

    Attributes:
        batch_gradient: `"mean"` or `"full"`, how gradients are reduced over the batch.
        leaves_graph: True where the weighting cannot be compiled by XLA.
        average: `"losses"`, or `"outputs"` where one loss against the mean of the teachers'
            softened outputs takes the place of the weighed losses.
    """

    batch_gradient: str = "mean"
    leaves_graph: bool = False
    average: str = "losses"

    @property
    def description(self) -> str:
        """Its name and settings, for messages."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    def __call__(self, gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Weights for `gram [M, M]`: `(weights [M], gap [])`, no gradient through either."""
        raise NotImplementedError

    def among(self, gram: tf.Tensor, live: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same where only some teachers may have weight: those of `live [M]`, bool.

        The outputs of the others were not finite. All weights are zero where nobody is left.
        By default the others are taken for teachers without a gradient, and what weight they
        get is shared among those live in proportion.
        """
        weights, gap = self(tf.where(live[:, None] & live[None, :], gram, 0.0))
        kept = tf.where(live, weights, 0.0)
        total = tf.reduce_sum(kept)
        shared = tf.where(total > 0, tf.math.divide_no_nan(kept, total), uniform_among(live))
        return tf.where(tf.reduce_all(live), weights, shared), gap

    def validate(self, num_teachers: int) -> None:
        """Raises ValueError if this weighting cannot serve `num_teachers` teachers."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Weighting:
        return cls(**config)


def uniform_among(live: tf.Tensor) -> tf.Tensor:
    """`[M]` float32: one over their number for the teachers that are live, else zero."""
    mask = tf.cast(live, tf.float32)
    return mask / tf.maximum(tf.reduce_sum(mask), 1.0)

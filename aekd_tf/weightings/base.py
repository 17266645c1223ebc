"""The base of weightings, which turn the teachers' Gram matrix into teacher weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class Weighting:
    """Base of all weightings; subclass it to try one of your own.

    Attributes:
        batch_gradient: `"mean"` or `"full"`, how gradients are reduced over the batch.
        leaves_graph: True if XLA cannot compile the weighting.
        average: `"losses"`, or `"outputs"` if one loss against the mean of the teachers'
            softened outputs replaces the weighted losses.
    """

    batch_gradient: str = "mean"
    leaves_graph: bool = False
    average: str = "losses"

    @property
    def description(self) -> str:
        """Returns the weighting's name and settings, for messages."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    def __call__(self, gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(weights [M], gap [])` for `gram [M, M]`, without a gradient through either."""
        raise NotImplementedError

    def among(self, gram: tf.Tensor, live: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(weights [M], gap [])` when only the teachers of `live [M]` may have weight.

        The outputs of the other teachers were not finite. All weights are zero if no teacher is
        live. By default the others count as teachers without a gradient. The weight that they
        would get is shared among the live teachers in proportion.
        """
        weights, gap = self(tf.where(live[:, None] & live[None, :], gram, 0.0))
        kept = tf.where(live, weights, 0.0)
        total = tf.reduce_sum(kept)
        shared = tf.where(total > 0, tf.math.divide_no_nan(kept, total), uniform_among(live))
        return tf.where(tf.reduce_all(live), weights, shared), gap

    def attach(self, steps: Callable[[], Any]) -> None:
        """Prepares the weighting for training, in a distiller's scope.

        `steps` returns the number of optimizer steps, for schedules.
        """

    def validate(self, num_teachers: int) -> None:
        """Raises ValueError if this weighting cannot serve `num_teachers` teachers."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Weighting:
        return cls(**config)


def uniform_among(live: tf.Tensor) -> tf.Tensor:
    """Returns `[M]` float32: 1 / (number of live teachers) for those, zero for the others."""
    mask = tf.cast(live, tf.float32)
    return mask / tf.maximum(tf.reduce_sum(mask), 1.0)

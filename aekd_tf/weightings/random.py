"""One teacher per step, drawn at random."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting


@keras.saving.register_keras_serializable("aekd_tf")
class RandomWeighting(Weighting):
    """Lets one live teacher teach each step, all of them equally often (`"random"`).

    The weights are::

        w = e_k,  k uniform on the live teachers

    The expected loss is the average's, with more noise. It is a baseline: like the average, it
    does not tell good teachers from bad ones.

    All replicas draw the same teacher. Draws depend on the seed and on the number of earlier
    steps, which a checkpoint and a saved distiller hold. All batches of a validation take the
    teacher that the next step will take. Terms that share this weighting draw alike.

    Args:
        seed: integer from 0 on; None takes one from the global seed of
            `keras.utils.set_random_seed`.

    Raises:
        ValueError: a seed that is not such an integer.

    Example::

        import numpy as np
        from aekd_tf import RandomWeighting, Signals

        weights, diagnostics = RandomWeighting(seed=1)(Signals(live=np.ones(3, bool)))
        print(weights.numpy())  # [0. 0. 1.]

    Reference:
        Fukuda et al., "Efficient Knowledge Distillation from an Ensemble of Teachers",
        Interspeech 2017, who also draw one teacher per minibatch.
    """

    shared = True
    needs = ()

    def __init__(self, seed: int | None = None):
        number = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
        if seed is not None and not (number and 0 <= seed < 2**63):
            raise ValueError(f"seed is {seed!r}: give an integer from 0 on, or None")
        self.seed = None if seed is None else int(seed)
        # As Keras draws the seeds of its own generators.
        self._start = random.randint(1, int(1e9)) if self.seed is None else self.seed

    def initial_state(self, num_teachers: int) -> dict[str, np.ndarray]:
        return {"seed": np.array([self._start, 0], np.int64)}

    def weights(self, signals: Signals) -> tuple[tf.Tensor, dict[str, Any]]:
        seed = signals.state["seed"]
        live = tf.cast(signals.live, tf.int64)
        # Integers, because XLA makes other fractions of the same bits.
        bits = tf.random.stateless_uniform(
            [], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )
        drawn = tf.cast(bits, tf.int64) * tf.reduce_sum(live) // 2**32
        weights = tf.where(signals.live & (tf.cumsum(live) == drawn + 1), 1.0, 0.0)
        return weights, {"state": {"seed": seed + tf.constant([0, 1], tf.int64)}}

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}

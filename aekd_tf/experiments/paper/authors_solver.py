"""Solves the QP as the authors' code does, for comparison in experiments only."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.signals import Signals
from aekd_tf.weightings.adaptive import AdaptiveWeighting


class UnscaledLibsvm(AdaptiveWeighting):
    """AE-KD's weights from LIBSVM on the unscaled Gram matrix, at stopping level 1e-6.

    Entries of the matrix are near that level. The solver may therefore stop at its starting
    point, the first 1/C teachers by position. It leaves the graph.

    Attributes:
        steps, at_start: number of solved problems, and number of answers that are the starting
            point.
    """

    def __init__(self, tolerance: float = 0.6, batch_gradient: str = "mean"):
        super().__init__(tolerance, batch_gradient)
        self.leaves_graph = True
        self.steps = self.at_start = 0

    def weights(self, signals: Signals) -> tf.Tensor:
        weights = tf.numpy_function(self.solve, [signals.gram], tf.float32)
        weights.set_shape(signals.gram.shape[:1])
        return weights

    def solve(self, gram: np.ndarray) -> np.ndarray:
        """Solves for the weights, `[M]` float32, of one Gram matrix `[M, M]`."""
        from sklearn.svm import OneClassSVM

        size = len(gram)
        nu = min(1.0, 1 / (self.tolerance * size))
        machine = OneClassSVM(kernel="precomputed", nu=nu, tol=1e-6).fit(gram.astype(np.float64))
        weights = np.zeros(size)
        weights[machine.support_] = machine.dual_coef_[0]
        weights /= weights.sum()
        self.steps += 1
        self.at_start += bool(np.abs(weights - start(size, nu)).max() < 1e-6)
        return weights.astype(np.float32)


def start(size: int, nu: float) -> np.ndarray:
    """Returns LIBSVM's starting point: the first nu M teachers in full, the rest on the next."""
    full = int(nu * size)
    weights = np.zeros(size)
    weights[:full] = 1.0
    if full < size:
        weights[full] = nu * size - full
    return weights / weights.sum()

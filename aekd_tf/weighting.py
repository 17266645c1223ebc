"""A weighting turns the Gram matrix of the teachers' gradients into teacher weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import (
    AVERAGES,
    BATCH_GRADIENTS,
    REFERENCE_SOLVERS,
    SOLVERS,
    WEIGHTINGS,
    check_choice,
    check_tolerance,
)
from aekd_tf.qp import solve_capped_simplex_qp


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

    def among(self, gram: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same where only some teachers may have weight: those of `present [M]`, bool.

        The outputs of the others were not finite. All weights are zero where nobody is left.
        By default the others are taken for teachers without a gradient, and what weight they
        get is shared among those present in proportion.
        """
        weights, gap = self(tf.where(present[:, None] & present[None, :], gram, 0.0))
        kept = tf.where(present, weights, 0.0)
        total = tf.reduce_sum(kept)
        shared = tf.where(total > 0, tf.math.divide_no_nan(kept, total), uniform_among(present))
        return tf.where(tf.reduce_all(present), weights, shared), gap

    def validate(self, num_teachers: int) -> None:
        """Raises ValueError if this weighting cannot serve `num_teachers` teachers."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Weighting:
        return cls(**config)


@keras.saving.register_keras_serializable("aekd_tf")
class UniformWeighting(Weighting):
    """Every teacher alike: AVER, the plain average of the teachers' losses (Eq. 2).

    Args:
        average: `"losses"`, or `"outputs"` for one loss against the mean of the teachers'
            softened outputs. Proposition 1: the same training, `kd_loss` differing by what
            has no gradient.

    Raises:
        ValueError: an unknown `average`.
    """

    def __init__(self, average: str = "losses"):
        check_choice("average", average, AVERAGES)
        self.average = average

    def get_config(self) -> dict[str, Any]:
        return {"average": self.average}

    def __call__(self, gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = gram.shape[-1]
        return tf.fill([size], tf.constant(1 / size, gram.dtype)), tf.zeros([], gram.dtype)


@keras.saving.register_keras_serializable("aekd_tf")
class AdaptiveWeighting(Weighting):
    """AE-KD: the weights whose gradient most teachers agree with (Eq. 10 and 13).

    Args:
        tolerance: the cap C on any one teacher's weight, in `[1/M, 1]`. 1/M is the plain
            average; 1 is the minimum-norm point of MGDA, which no teacher opposes.
        batch_gradient: `"mean"` (the authors' code) or `"full"` (Eq. 15 as written).
        normalize: scale the gradients to unit length before the solve, then divide the
            weights by the lengths and renormalise. The cap holds before that division,
            not after it.
        solver: `"smo"`, `"projected"`, `"cvxopt"` or `"libsvm"`; see
            `solve_capped_simplex_qp`. The last two leave the graph and exclude XLA.

    Raises:
        ValueError: a tolerance outside (0, 1], an unknown solver or batch gradient.
    """

    def __init__(
        self,
        tolerance: float = 0.6,
        batch_gradient: str = "mean",
        normalize: bool = False,
        solver: str = "smo",
    ):
        check_tolerance(tolerance)
        check_choice("batch_gradient", batch_gradient, BATCH_GRADIENTS)
        check_choice("solver", solver, SOLVERS)
        self.tolerance = tolerance
        self.batch_gradient = batch_gradient
        self.normalize = normalize
        self.solver = solver
        self.leaves_graph = solver in REFERENCE_SOLVERS

    def validate(self, num_teachers: int) -> None:
        if num_teachers > 1:
            check_tolerance(self.tolerance, num_teachers)

    def __call__(self, gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = gram.shape[-1]
        # One teacher takes all the weight, whatever the cap.
        uniform = tf.fill([size], tf.constant(1 / size, gram.dtype))
        return self._solve(gram, self.tolerance if size > 1 else 1.0, uniform)

    def among(self, gram: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The QP over the teachers that are present, their cap at least one over their number."""
        uniform = uniform_among(present)
        # One teacher takes all the weight, whatever the cap.
        cap = self.tolerance if gram.shape[-1] > 1 else 1.0
        caps = tf.where(present, tf.maximum(cap, uniform), 0.0)
        caps = tf.where(tf.reduce_any(present), caps, 1.0)
        gram = tf.where(present[:, None] & present[None, :], gram, 0.0)
        weights, gap = self._solve(gram, caps, uniform)
        return tf.where(present, weights, 0.0), gap

    def _solve(
        self, gram: tf.Tensor, tolerance: Any, uniform: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.normalize:
            weights, gap, _ = solve_capped_simplex_qp(gram, tolerance, solver=self.solver)
            return weights, gap
        gram = tf.stop_gradient(gram)
        lengths = tf.sqrt(tf.linalg.diag_part(gram))
        # A teacher without a gradient has no direction: it stays of length zero.
        unit = tf.math.divide_no_nan(gram, lengths[:, None] * lengths[None, :])
        weights, gap, _ = solve_capped_simplex_qp(unit, tolerance, solver=self.solver)
        longest = tf.reduce_max(lengths)
        weights = tf.math.divide_no_nan(weights * longest, tf.where(lengths > 0, lengths, longest))
        total = tf.reduce_sum(weights)
        return tf.where((total > 0) & tf.math.is_finite(total), weights / total, uniform), gap

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "batch_gradient": self.batch_gradient,
            "normalize": self.normalize,
            "solver": self.solver,
        }


def uniform_among(present: tf.Tensor) -> tf.Tensor:
    """`[M]` float32: one over their number for the teachers that are present, else zero."""
    mask = tf.cast(present, tf.float32)
    return mask / tf.maximum(tf.reduce_sum(mask), 1.0)


def get(identifier: str | Weighting) -> Weighting:
    """The weighting of that name (`"aekd"`, `"average"`, `"average_outputs"`) or the one given.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if isinstance(identifier, Weighting):
        return identifier
    check_choice("weighting", identifier, WEIGHTINGS)
    if identifier == "aekd":
        return AdaptiveWeighting()
    return UniformWeighting("outputs" if identifier == "average_outputs" else "losses")

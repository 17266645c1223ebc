"""AE-KD: weights from a quadratic program over the teachers' gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_choice, check_tolerance
from aekd_tf.names import BATCH_GRADIENTS, REFERENCE_SOLVERS, SOLVERS
from aekd_tf.qp.solve import solve_capped_simplex_qp
from aekd_tf.settings import Settings, setting
from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting, uniform_among


@keras.saving.register_keras_serializable("aekd_tf")
class AdaptiveWeighting(Weighting):
    """AE-KD: the weights whose gradient most teachers agree with (Eq. 10 and 13).

    Args:
        tolerance: the cap C on each teacher's weight, in `[1/M, 1]`. 1/M is the plain
            average; 1 is the minimum-norm point of MGDA, which no teacher opposes. A
            `keras.Variable` or a schedule over steps is followed.
        batch_gradient: `"mean"` (the authors' code) or `"full"` (Eq. 15 as written).
        normalize: whether to scale the gradients to unit length before the solve. The weights
            are then divided by the lengths and renormalized, and may exceed the cap.
        solver: `"smo"`, `"projected"`, `"cvxopt"` or `"libsvm"`; see
            `solve_capped_simplex_qp`. The last two leave the graph and exclude XLA.

    Raises:
        ValueError: a tolerance outside (0, 1], an unknown solver or batch gradient.
    """

    def __init__(
        self,
        tolerance: Any = 0.6,
        batch_gradient: str = "mean",
        normalize: bool = False,
        solver: str = "smo",
    ):
        check_choice("batch_gradient", batch_gradient, BATCH_GRADIENTS)
        check_choice("solver", solver, SOLVERS)
        self._num_teachers: int | None = None
        self._settings = Settings({"tolerance": self._checked_tolerance})
        self.tolerance = tolerance
        self.batch_gradient = batch_gradient
        self.normalize = normalize
        self.solver = solver
        self.leaves_graph = solver in REFERENCE_SOLVERS

    tolerance = setting("tolerance", "The cap C; set while training it takes effect at once.")

    def _checked_tolerance(self, tolerance: float) -> float:
        check_tolerance(tolerance, self._num_teachers)
        return float(tolerance)

    def validate(self, num_teachers: int) -> None:
        self._num_teachers = num_teachers if num_teachers > 1 else None
        self._checked_tolerance(self.tolerance)

    def attach(self, steps: Callable[[], Any]) -> None:
        self._settings.steps = steps
        self._settings.make_variables()

    def weights(self, signals: Signals) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Solves the program over the live teachers, whose cap is at least 1 / their number."""
        gram, live = signals.gram, signals.live
        uniform = uniform_among(live)
        # One teacher takes all the weight, whatever the cap.
        cap = self._settings.tensor("tolerance") if gram.shape[-1] > 1 else 1.0
        caps = tf.where(live, tf.maximum(cap, uniform), 0.0)
        caps = tf.where(tf.reduce_any(live), caps, 1.0)
        gram = tf.where(live[:, None] & live[None, :], gram, 0.0)
        weights, gap = self._solve(gram, caps, uniform)
        return weights, {"qp_gap": gap}

    def _solve(
        self, gram: tf.Tensor, tolerance: Any, uniform: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.normalize:
            weights, gap, _ = solve_capped_simplex_qp(gram, tolerance, solver=self.solver)
            return weights, gap
        gram = tf.stop_gradient(gram)
        lengths = tf.sqrt(tf.linalg.diag_part(gram))
        # A teacher without a gradient has no direction: its length stays zero.
        unit = tf.math.divide_no_nan(gram, lengths[:, None] * lengths[None, :])
        weights, gap, _ = solve_capped_simplex_qp(unit, tolerance, solver=self.solver)
        longest = tf.reduce_max(lengths)
        weights = tf.math.divide_no_nan(weights * longest, tf.where(lengths > 0, lengths, longest))
        total = tf.reduce_sum(weights)
        return tf.where((total > 0) & tf.math.is_finite(total), weights / total, uniform), gap

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self._settings.config("tolerance"),
            "batch_gradient": self.batch_gradient,
            "normalize": self.normalize,
            "solver": self.solver,
        }

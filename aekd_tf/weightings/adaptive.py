"""AE-KD and its relatives: weights from a quadratic program over the teachers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_choice, check_number, check_tolerance
from aekd_tf.gradients import example_grams, gram_matrix
from aekd_tf.monitoring.reprs import Words, text
from aekd_tf.names import ANCHORS, BATCH_GRADIENTS, REFERENCE_SOLVERS, SOLVERS
from aekd_tf.qp.solve import solve_capped_simplex_qp
from aekd_tf.refusals import refusal
from aekd_tf.settings import Settings, setting
from aekd_tf.signals import Signals
from aekd_tf.training.replicas import largest
from aekd_tf.weightings.base import Weighting, uniform_among
from aekd_tf.weightings.reference import residuals


@keras.saving.register_keras_serializable("aekd_tf")
class AdaptiveWeighting(Weighting):
    r"""Weights teachers by the program of AE-KD (Eq. 10 and 13), with a choice of its reference.

    The weights solve::

        minimize  1/2 || sum_m w_m r_m ||^2   subject to  sum_m w_m = 1,  0 <= w_m <= C

    With `anchor=0`, the paper's AE-KD, r_m is the gradient of teacher m's loss: the program
    finds the combination of teachers closest to what the student says now. Teachers that say
    little are close to a student early in training, and get the weight.

    With an anchor a > 0 the truth y takes a share of the student's place::

        r_m = (1 - a) f(s) + a y - f(z_m)

    s and z_m are the student's and the teacher's outputs. f is the softmax at
    `anchor_temperature` for classes, the sigmoid for independent labels and one logit, and the
    identity for regression. `anchor=1` finds the capped combination of teachers closest to the
    truth on this batch. It fails with teachers that have memorized the labels, unless the vote
    stands for the truth. Hints take the weights of the outputs.

    Args:
        tolerance: the cap C on each teacher's weight, in `[1/M, 1]`. 1/M is the plain
            average; 1 is the minimum-norm point of MGDA, which no teacher opposes. A
            `keras.Variable` or a schedule over steps is followed.
        batch_gradient: `"mean"` averages over the batch first (the authors' code), `"full"`
            keeps all examples apart (Eq. 15 as written). None is `"mean"` at anchor 0 and
            `"full"` otherwise: a mean is blind to a teacher that always says the same.
        normalize: whether to scale the r_m to unit length before the solve. The weights
            are then divided by the lengths and renormalized, and may exceed the cap.
        solver: `"smo"`, `"projected"`, `"cvxopt"` or `"libsvm"`; see
            `solve_capped_simplex_qp`. The last two leave the graph and exclude XLA.
        anchor: a, from 0 to 1. If it is above 0 at first, a `keras.Variable` or a schedule is
            followed.
        anchor_temperature: T > 0 of the softmax in r_m.
        anchor_to: `"labels"`, or `"vote"`, the majority of the teachers, which needs no labels.
        per_example: whether every example has its own program, and weights are `[M, B]`. Sample
            weights then have no part in the program.

    Raises:
        ValueError: a tolerance outside (0, 1], an anchor outside [0, 1], a temperature that is
            not above 0, an unknown solver, batch gradient or `anchor_to`; in training, no labels
            to anchor to.

    Example::

        import numpy as np
        from aekd_tf import AdaptiveWeighting, Signals

        # The second teacher's gradient is twice as long, at a right angle to the first's.
        signals = Signals(live=np.ones(2, bool), gram=np.array([[1.0, 0.0], [0.0, 4.0]]))
        weights, diagnostics = AdaptiveWeighting(tolerance=1.0)(signals)
        print(weights.numpy().round(2))  # [0.8 0.2]
        # In training: EnsembleDistiller(student, teachers, weighting=AdaptiveWeighting(0.6))

    Reference:
        Du et al., "Agree to Disagree", NeurIPS 2020. For `anchor=1`: Breiman, "Stacked
        regressions", 1996, of which it is the capped form, solved per batch.
    """

    def __init__(
        self,
        tolerance: Any = 0.6,
        batch_gradient: str | None = None,
        normalize: bool = False,
        solver: str = "smo",
        anchor: Any = 0.0,
        anchor_temperature: float = 1.0,
        anchor_to: str = "labels",
        per_example: bool = False,
    ):
        if batch_gradient is not None:
            check_choice("batch_gradient", batch_gradient, BATCH_GRADIENTS)
        check_choice("solver", solver, SOLVERS)
        check_choice("anchor_to", anchor_to, ANCHORS)
        self._num_teachers: int | None = None
        self._anchored: bool | None = None  # until there is an anchor
        self._settings = Settings(
            {"tolerance": self._checked_tolerance, "anchor": self._checked_anchor}
        )
        self.tolerance = tolerance
        self.anchor = anchor
        followed = not isinstance(anchor, (int, float))
        self._anchored = followed or self.anchor > 0
        self._given_batch_gradient = batch_gradient
        self.batch_gradient = batch_gradient or ("full" if self._anchored else "mean")
        self.normalize = normalize
        self.solver = solver
        self.anchor_temperature = check_number(
            "anchor_temperature", anchor_temperature, above_zero=True
        )
        self.anchor_to = anchor_to
        self.per_example = self.example_gram = per_example
        self.leaves_graph = solver in REFERENCE_SOLVERS
        self.shared = self._anchored
        if self._anchored:
            self.reads_at = self.anchor_temperature
            labels = ("labels",) if anchor_to == "labels" else ()
            self.needs = ("teacher_outputs", "student_outputs", "sample_weight", *labels)

    tolerance = setting("tolerance", "The cap C; set while training it takes effect at once.")
    anchor = setting("anchor", "a; above 0 it may change while training, but not from or to 0.")

    def _checked_tolerance(self, tolerance: float) -> float:
        check_tolerance(tolerance, self._num_teachers)
        return float(tolerance)

    def _checked_anchor(self, anchor: float) -> float:
        number = check_number("anchor", anchor)
        if number > 1:
            raise ValueError(f"anchor is {anchor}: give a number from 0 (student) to 1 (the truth)")
        if self._anchored is not None and self._anchored != (number > 0):
            raise refusal("anchor_changed", anchor=f"{number:g}", before=f"{self.anchor:g}")
        return number

    def validate(self, num_teachers: int) -> None:
        self._num_teachers = num_teachers if num_teachers > 1 else None
        self._checked_tolerance(self.tolerance)

    def attach(self, steps: Callable[[], Any]) -> None:
        self._settings.steps = steps
        self._settings.make_variables()

    def weights(self, signals: Signals) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Solves the program over the live teachers, whose cap is at least 1 / their number."""
        gram, live = self._gram(signals), signals.live
        uniform = uniform_among(live)
        # One teacher takes all the weight, whatever the cap.
        cap = self._settings.tensor("tolerance") if gram.shape[-1] > 1 else 1.0
        caps = tf.where(live, tf.maximum(cap, uniform), 0.0)
        caps = tf.where(tf.reduce_any(live), caps, 1.0)
        gram = tf.where(live[:, None] & live[None, :], gram, 0.0)
        weights, gap = self._solve(gram, caps, uniform)
        if self.per_example:
            weights = tf.transpose(weights)
            gap = largest(tf.reduce_max(tf.concat([gap, [0.0]], 0)))  # there may be no example
        return weights, {"qp_gap": gap}

    def _gram(self, signals: Signals) -> tf.Tensor:
        """Returns the program's matrix, `[M, M]`, or `[B, M, M]` with one per example."""
        if not self._anchored:
            return signals.gram
        found = residuals(
            signals,
            self._settings.tensor("anchor"),
            self.anchor_temperature,
            self.anchor_to,
            type(self).__name__,
        )
        if self.per_example:
            return example_grams(found)
        weight = signals.example_weight
        if weight is not None:
            found *= tf.reshape(weight, [1, -1] + [1] * (found.shape.rank - 2))
        return gram_matrix(found, self.batch_gradient)

    def _solve(
        self, gram: tf.Tensor, tolerance: Any, uniform: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.normalize:
            weights, gap, _ = solve_capped_simplex_qp(gram, tolerance, solver=self.solver)
            return weights, gap
        gram = tf.stop_gradient(gram)
        lengths = tf.sqrt(tf.linalg.diag_part(gram))
        # A teacher without a gradient has no direction: its length stays zero.
        unit = tf.math.divide_no_nan(gram, lengths[..., :, None] * lengths[..., None, :])
        weights, gap, _ = solve_capped_simplex_qp(unit, tolerance, solver=self.solver)
        longest = tf.reduce_max(lengths, -1, keepdims=True)
        weights = tf.math.divide_no_nan(weights * longest, tf.where(lengths > 0, lengths, longest))
        total = tf.reduce_sum(weights, -1, keepdims=True)
        return tf.where((total > 0) & tf.math.is_finite(total), weights / total, uniform), gap

    def given_settings(self) -> dict[str, Any]:
        """Returns what follows a variable or a schedule as it was given, else numbers."""
        return self._settings.given()

    def _shown(self) -> dict[str, Any]:
        given = self.given_settings()
        tolerance = Words(text(given["tolerance"]))  # shown also if it is the default
        return {**given, "tolerance": tolerance, "batch_gradient": self._given_batch_gradient}

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self._settings.config("tolerance"),
            "batch_gradient": self._given_batch_gradient,
            "normalize": self.normalize,
            "solver": self.solver,
            "anchor": self._settings.config("anchor"),
            "anchor_temperature": self.anchor_temperature,
            "anchor_to": self.anchor_to,
            "per_example": self.per_example,
        }

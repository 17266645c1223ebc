"""Weights that are the same in every step, for all examples or by class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.losses.dkd import one_hot
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals
from aekd_tf.teachers.votes import vote
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.held_out import held_out
from aekd_tf.weightings.stacking import accuracy_weights, stacked_weights


@keras.saving.register_keras_serializable("aekd_tf")
class FixedWeighting(Weighting):
    """Keeps weights that never change, given or chosen on held-out examples.

    Weights by class follow the example: it takes those of its label's class, or without labels
    those of the class that most teachers vote for.

    Args:
        values: `[M]`, or `[K, M]` by class; each row at least 0 and with sum 1.

    Attributes:
        values: the same, a NumPy array.

    Raises:
        ValueError: values of another shape, or off the simplex; weights for other numbers of
            teachers or classes than there are.

    Example::

        import numpy as np
        from aekd_tf import FixedWeighting

        labels = np.array([0, 1, 0, 1])  # of held-out examples
        good = np.eye(2)[labels]
        outputs = 5 * np.stack([good, good[::-1]])  # [2 teachers, 4 examples, 2 classes]
        weighting = FixedWeighting.stacked(outputs, labels, tolerance=0.9, per_class=False)
        print(weighting.values)  # [0.9 0.1]
        print(FixedWeighting([0.5, 0.5]))  # FixedWeighting(values=[0.5, 0.5])
    """

    shared = True

    def __init__(self, values: Any):
        self.values: np.ndarray = checked(values)
        self.needs = () if self.values.ndim == 1 else ("teacher_outputs", "labels")

    @classmethod
    def from_accuracy(
        cls, teachers_or_outputs: Any, data: Any, *, power: float = 4.0, per_class: bool = True
    ) -> FixedWeighting:
        """Returns weights in proportion to held-out accuracy to a power, the rule to beat.

        By class, accuracy is `(hits + 0.5) / (n + 5)` with n held-out examples of the class. The
        rule does not see teachers that share their errors, and the power must be chosen.

        Args:
            teachers_or_outputs: a `TeacherEnsemble`, models, or outputs `[M, N, K]`.
            data: for models `(x, y)`, or batches of these; for outputs `y`.
            power: exponent, at least 0, which is the plain average.
            per_class: whether each class has its own weights; dense outputs have none.

        Raises:
            ValueError: no labels of classes.
        """
        examples = held_out(teachers_or_outputs, data, "classes")
        return cls(accuracy_weights(examples, power, per_class))

    @classmethod
    def stacked(
        cls,
        teachers_or_outputs: Any,
        data: Any,
        *,
        tolerance: float = 0.6,
        temperature: float = 4.0,
        anchor_to: str | None = None,
        per_class: bool = True,
        prior: float = 5.0,
        head: str = "classes",
    ) -> FixedWeighting:
        r"""Returns the weights whose mixture of teachers is closest to the truth on held-out data.

        Solves, over all held-out examples x and once for every class c::

            minimize  1/2 w' (sum_{x in c} r(x) r(x)' + prior * mean_x r(x) r(x)') w
            subject to  sum_m w_m = 1,  0 <= w_m <= C       with  r_m = y - f(z_m)

        z_m are the outputs of teacher m and f is the softmax at `temperature` (the sigmoid for
        independent labels, the identity for regression). y is the truth: the labels or the
        teachers' vote. This is capped stacking on the Brier score, by class.

        Examples must be held out from the teachers, too: a teacher looks better on examples that
        it was trained on. The student's figures on these examples are not independent of the
        weights, so report those on a test set. With a vote for the truth, a majority must know
        the class.

        Args:
            teachers_or_outputs: a `TeacherEnsemble`, models, or outputs `[M, N, ..., K]`.
            data: for models `x`, `(x, y)` or `(x, y, sample_weight)`, or batches of these; for
                outputs `y` or None. Sample weights multiply an example's part in the sum.
            tolerance: the cap C, in `[1/M, 1]`.
            temperature: T > 0 of the softmax. Above 1 it is more robust to wrong labels.
            anchor_to: `"labels"`, `"vote"` or `"agreed"`; None is the labels if there are any, else
                the vote. `"agreed"` is robust to wrong labels of classes: an example counts in
                proportion to `(v + 1/2) / (M + 1)`, if v of the M teachers give its label.
            per_class: whether each class has its own program. Independent labels, regression and
                dense outputs have one in all.
            prior: number of examples that the mean over all classes counts for, at least 0.
            head: `"classes"`, `"labels"` or `"regression"`.

        Raises:
            ValueError: a setting out of range; labels that are missing or do not fit.

        References:
            Wolpert, "Stacked generalization", 1992. Breiman, "Stacked regressions", 1996
            (non-negative weights).
        """
        examples = held_out(teachers_or_outputs, data, head)
        return cls(stacked_weights(examples, tolerance, temperature, anchor_to, per_class, prior))

    def validate(self, num_teachers: int) -> None:
        check_teachers(type(self).__name__, self.values, num_teachers)

    def weights(self, signals: Signals) -> tf.Tensor:
        return weights_of(self.values, signals, type(self).__name__)

    def get_config(self) -> dict[str, Any]:
        return {"values": self.values.tolist()}


def checked(values: Any) -> np.ndarray:
    """Returns weights as a float64 array; ValueError unless each row is on the simplex."""
    array = np.array(values, np.float64)
    sums = array.sum(-1) if array.ndim in (1, 2) and array.size else np.full(1, np.nan)
    if not (np.isfinite(sums).all() and array.min() >= 0 and np.abs(sums - 1).max() <= 1e-3):
        least = array.min() if array.size else np.nan
        raise refusal(
            "fixed_weights",
            shape=str(array.shape),
            least=f"{least:.4g}",
            low=f"{sums.min():.4g}",
            high=f"{sums.max():.4g}",
        )
    return array / sums[..., None]


def check_teachers(name: str, values: np.ndarray, num_teachers: int) -> None:
    """Raises ValueError unless the weights are for so many teachers."""
    if values.shape[-1] != num_teachers:
        raise refusal("fixed_teachers", name=name, values=values.shape[-1], teachers=num_teachers)


def weights_of(values: np.ndarray, signals: Signals, name: str) -> tf.Tensor:
    """Returns `[M]`, or `[M, B]` from weights by class.

    Raises:
        ValueError: weights by class for outputs without classes, or with others.
    """
    if values.ndim == 1:
        return tf.constant(values, tf.float32)
    outputs = signals.teacher_outputs
    if signals.head != "classes" or outputs.shape.rank != 3:
        head = signals.head if outputs.shape.rank == 3 else "dense"
        raise refusal("fixed_not_classes", name=name, head=head)
    if outputs.shape[-1] != len(values):
        raise refusal("fixed_classes", name=name, values=len(values), classes=outputs.shape[-1])
    if signals.labels is None:
        rows = vote(outputs, "classes", signals.live)
    else:
        rows = one_hot(signals.labels, outputs.shape[1:])
    return tf.transpose(tf.gather(tf.constant(values, tf.float32), tf.argmax(rows, -1)))

"""Weights that `fit` chooses on its validation data."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_choice, check_number, check_tolerance
from aekd_tf.names import HELD_OUT_ANCHORS
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.fixed import check_teachers, checked, weights_of
from aekd_tf.weightings.held_out import HeldOut
from aekd_tf.weightings.stacking import stacked_weights


@keras.saving.register_keras_serializable("aekd_tf")
class StackedWeighting(Weighting):
    """Chooses weights once, by `FixedWeighting.stacked` on the validation data of `fit`.

    `weighting="stacked"` stands for it.
    The program is solved once, before the first step, and the weights are saved with the model.
    A later `fit` keeps them. The student's figures on the validation data are then not
    independent of the weights, so report those on a test set. Teachers that were trained on the
    validation data spoil the choice.

    Args:
        tolerance, temperature, anchor_to, per_class, prior: as for `FixedWeighting.stacked`.
        values: weights that are chosen already.

    Attributes:
        values: `[M]`, or `[K, M]` by class; None before the first `fit`.

    Raises:
        ValueError: a setting out of range; in `fit`, no validation data.

    Example::

        import keras
        import numpy as np
        from aekd_tf import EnsembleDistiller, weightings

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(60, 4), np.random.randint(0, 3, 60)
        weighting = weightings.StackedWeighting(tolerance=0.8)
        distiller = EnsembleDistiller(network(), [network(), network()], weighting=weighting)
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        distiller.fit(x[:40], y[:40], validation_data=(x[40:], y[40:]), verbose=0)
        print(weighting.values.shape)  # (3, 2)
    """

    shared = True
    needs = ("teacher_outputs", "labels")

    def __init__(
        self,
        tolerance: float = 0.6,
        temperature: float = 4.0,
        anchor_to: str | None = None,
        per_class: bool = True,
        prior: float = 5.0,
        values: Any = None,
    ):
        self.values = None if values is None else checked(values)
        self._num_teachers: int | None = None
        self._set_tolerance(tolerance)
        if anchor_to is not None:
            check_choice("anchor_to", anchor_to, HELD_OUT_ANCHORS)
        self.temperature = check_number("temperature", temperature, above_zero=True)
        self.anchor_to, self.per_class = anchor_to, per_class
        self.prior = check_number("prior", prior)
        self.reads_at = self.temperature if values is None else None

    @property
    def tolerance(self) -> float:
        """The cap C; it may be set until the weights are chosen."""
        return self._tolerance

    @tolerance.setter
    def tolerance(self, value: float) -> None:
        if self.values is not None:
            raise refusal("stacked_already", tolerance=value)
        self._set_tolerance(value)

    def _set_tolerance(self, value: float) -> None:
        check_tolerance(value, self._num_teachers)
        self._tolerance = float(value)

    def validate(self, num_teachers: int) -> None:
        self._num_teachers = num_teachers if num_teachers > 1 else None
        self._set_tolerance(self.tolerance)
        if self.values is not None:
            check_teachers(type(self).__name__, self.values, num_teachers)

    def prepare(self, held_out: HeldOut) -> bool:
        if self.values is not None:
            return False
        if held_out.missing is not None:
            raise refusal("stacked_without_validation", why=held_out.missing)
        self.values = stacked_weights(
            held_out, self.tolerance, self.temperature, self.anchor_to, self.per_class, self.prior
        )
        self.reads_at = None
        return True

    def weights(self, signals: Signals) -> tf.Tensor:
        if self.values is None:
            raise refusal("stacked_not_solved")
        return weights_of(self.values, signals, type(self).__name__)

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "temperature": self.temperature,
            "anchor_to": self.anchor_to,
            "per_class": self.per_class,
            "prior": self.prior,
            "values": None if self.values is None else self.values.tolist(),
        }

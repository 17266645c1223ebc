"""The default weighting: chosen by what `fit` is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from aekd_tf.signals import Signals
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.held_out import HeldOut
from aekd_tf.weightings.stacked import StackedWeighting

TRUTHS = {"agreed": "labels that teachers agree on", "vote": "teachers' vote"}


@keras.saving.register_keras_serializable("aekd_tf")
class AutoWeighting(Weighting):
    """Chooses a weighting: stacked if `fit` has validation data, else anchored to the vote.

    It is the default, `weighting="auto"`.
    With labeled validation data it is `StackedWeighting(anchor_to="agreed")`, without labels
    `StackedWeighting(anchor_to="vote")`. Without validation data, and with `train_on_batch`, it is
    `AdaptiveWeighting(anchor=1.0, anchor_to="vote")`. A choice of stacked weights is kept.

    Args:
        tolerance: the cap C of either.
        chosen: the weighting that was chosen already; None before the first `fit`.
        reason: why.

    Attributes:
        chosen: the weighting in use.
        reason: why, in one line.

    Raises:
        ValueError: a tolerance outside (0, 1].

    Example::

        import keras
        import numpy as np
        from aekd_tf import EnsembleDistiller

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(60, 4), np.random.randint(0, 3, 60)
        distiller = EnsembleDistiller(network(), [network(), network()])
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        distiller.fit(x[:40], y[:40], validation_data=(x[40:], y[40:]), verbose=0)
        print(distiller.weighting.reason)  # there are validation data
        print(distiller.weighting.values.shape)  # (3, 2)
    """

    shared = True

    def __init__(self, tolerance: float = 0.6, chosen: Any = None, reason: str = "no fit so far"):
        if isinstance(chosen, dict):
            chosen = keras.saving.deserialize_keras_object(chosen)
        self._choose(chosen or anchored_to_vote(tolerance), reason)

    @property
    def tolerance(self) -> float:
        """The cap C; it may be set until stacked weights are chosen."""
        return self.chosen.tolerance

    @tolerance.setter
    def tolerance(self, value: Any) -> None:
        self.chosen.tolerance = value

    def _choose(self, weighting: AdaptiveWeighting | StackedWeighting, reason: str) -> None:
        self.chosen, self.reason = weighting, reason
        self.needs, self.batch_gradient = weighting.needs, weighting.batch_gradient
        self.values = weighting.values

    @property
    def choice(self) -> str:
        if isinstance(self.chosen, StackedWeighting):
            return f"auto is stacked, on the {TRUTHS[str(self.chosen.anchor_to)]}: {self.reason}"
        return f"auto is anchored to the vote: {self.reason}"

    def check_temperature(self, cached: float | None) -> None:
        if cached is not None and isinstance(self.chosen, AdaptiveWeighting):
            self._choose(anchored_to_vote(self.tolerance, cached), self.reason)

    def validate(self, num_teachers: int) -> None:
        self.chosen.validate(num_teachers)

    def attach(self, steps: Callable[[], Any]) -> None:
        self.chosen.attach(steps)

    def prepare(self, held_out: HeldOut) -> bool:
        if isinstance(self.chosen, StackedWeighting):
            return False
        if held_out.missing is not None:
            self.reason = held_out.missing
            return False
        anchor_to = "agreed" if held_out.labeled else "vote"
        stacked = StackedWeighting(self.tolerance, held_out.temperature or 4.0, anchor_to)
        stacked.prepare(held_out)
        self._choose(stacked, "there are validation data")
        return True

    def weights(self, signals: Signals) -> Any:
        return self.chosen.weights(signals)

    def _shown(self) -> dict[str, Any]:
        if isinstance(self.chosen, AdaptiveWeighting) and self.chosen.anchor_temperature == 1:
            return {**self.chosen.given_settings(), "chosen": None}
        return {"chosen": self.chosen}

    def get_config(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "chosen": keras.saving.serialize_keras_object(self.chosen),
            "reason": self.reason,
        }


def anchored_to_vote(tolerance: Any, temperature: float = 1.0) -> AdaptiveWeighting:
    """Returns the choice without held-out examples."""
    return AdaptiveWeighting(
        tolerance, anchor=1.0, anchor_temperature=temperature, anchor_to="vote"
    )

"""Smooths the weights of another weighting over steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_number
from aekd_tf.refusals import refusal
from aekd_tf.settings import Settings, setting
from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting, among_live, check_interface
from aekd_tf.weightings.held_out import HeldOut

# Marks the inner weighting's part of the state.
_INNER = "inner_"


@keras.saving.register_keras_serializable("aekd_tf")
class Smoothed(Weighting):
    """Averages another weighting's weights exponentially over steps.

    The weights of step t are::

        v_t = decay v_{t-1} + (1 - decay) w_t,  v_1 = w_1

    It takes the noise of small batches out of the weights `w_t`, and is as late as it is smooth:
    about `1 / (1 - decay)` steps. It cannot fix weights that are wrong on average.

    A teacher that is left out of a batch keeps its smoothed weight, which the others share on
    that batch. Validation takes the average up to now, and the batch's weights as the latest,
    but does not keep it. A checkpoint and a saved distiller hold the average.

    Args:
        weighting: a `Weighting` with weights `[M]`. An example has no history, so weights per
            example are refused.
        decay: from 0, which smooths nothing, to below 1. A `keras.Variable` or a schedule over
            steps is followed.

    Raises:
        ValueError: a decay outside [0, 1); in training, an inner weighting per example.
        TypeError: not a `Weighting`.

    Example::

        import numpy as np
        from aekd_tf import CrossEntropyWeighting, Signals, Smoothed

        weighting = Smoothed(CrossEntropyWeighting(), decay=0.9)
        batch = {"live": np.ones(2, bool), "labels": np.array([0])}
        outputs = np.array([[[2.0, 0.0]], [[0.0, 2.0]]])  # 2 teachers, 1 example, 2 classes
        weights, diagnostics = weighting(Signals(**batch, teacher_outputs=outputs))
        print(weights.numpy().round(2))  # [0.88 0.12]
        signals = Signals(**batch, teacher_outputs=outputs[::-1], state=diagnostics["state"])
        print(weighting(signals)[0].numpy().round(2))  # [0.8 0.2]
    """

    def __init__(self, weighting: Weighting, decay: Any = 0.9):
        if not isinstance(weighting, Weighting):
            raise refusal("not_a_weighting", kind=type(weighting).__name__)
        check_interface(weighting)
        self.weighting = weighting
        self._settings = Settings({"decay": _checked_decay})
        self.decay = decay

    decay = setting("decay", "Share of the past; set while training it takes effect at once.")

    # What the inner weighting asks for.
    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.weighting.needs

    @property
    def batch_gradient(self) -> str:  # type: ignore[override]
        return self.weighting.batch_gradient

    @property
    def leaves_graph(self) -> bool:  # type: ignore[override]
        return self.weighting.leaves_graph

    @property
    def example_gram(self) -> bool:  # type: ignore[override]
        return self.weighting.example_gram

    @property
    def shared(self) -> bool:  # type: ignore[override]
        return self.weighting.shared

    def check_temperature(self, cached: float | None) -> None:
        self.weighting.check_temperature(cached)

    @property
    def choice(self) -> str | None:
        return self.weighting.choice

    def prepare(self, held_out: HeldOut) -> bool:
        return self.weighting.prepare(held_out)

    def validate(self, num_teachers: int) -> None:
        self.weighting.validate(num_teachers)

    def attach(self, steps: Callable[[], Any]) -> None:
        self.weighting.attach(steps)
        self._settings.steps = steps
        self._settings.make_variables()

    def initial_state(self, num_teachers: int) -> dict[str, np.ndarray]:
        inner = self.weighting.initial_state(num_teachers)
        # All zero before the first step.
        average = np.zeros([num_teachers], np.float32)
        return {"average": average, **{_INNER + name: value for name, value in inner.items()}}

    def weights(self, signals: Signals) -> tuple[tf.Tensor, dict[str, Any]]:
        latest, diagnostics = self.weighting(self._inner(signals))
        if latest.shape.rank != 1:
            raise refusal("smoothed_per_example", name=type(self.weighting).__name__)
        live, before = signals.live, signals.state["average"]
        decay = self._settings.tensor("decay")
        smooth = decay * among_live(before, live) + (1 - decay) * latest
        smooth = tf.where(tf.reduce_any(before > 0), smooth, latest)
        # What teachers that are left out keep.
        kept = tf.where(live, 0.0, before)
        average = kept + (1 - tf.reduce_sum(kept)) * smooth
        inner = diagnostics.pop("state", {})
        state = {"average": average, **{_INNER + name: value for name, value in inner.items()}}
        return smooth, {**diagnostics, "state": state}

    def _inner(self, signals: Signals) -> Signals:
        """Returns the signals with the inner weighting's part of the state."""
        state = signals.state
        inner = {name.removeprefix(_INNER): state[name] for name in state if name != "average"}
        return dataclasses.replace(signals, state=inner)

    def check_values(self, signals: Signals) -> None:
        self.weighting.check_values(self._inner(signals))

    def _shown(self) -> dict[str, Any]:
        return self._settings.given()

    def get_config(self) -> dict[str, Any]:
        return {
            "weighting": keras.saving.serialize_keras_object(self.weighting),
            "decay": self._settings.config("decay"),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Smoothed:
        inner = keras.saving.deserialize_keras_object(config["weighting"])
        return cls(**{**config, "weighting": inner})


def _checked_decay(decay: float) -> float:
    number = check_number("decay", decay)
    if number >= 1:
        raise ValueError(f"decay is {decay}: give a number from 0 to below 1")
    return number

"""Numbers of a training step that may change while it trains, without a new trace."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_number
from aekd_tf.refusals import refusal

Schedule = keras.optimizers.schedules.LearningRateSchedule


class Settings:
    """Named numbers, in variables that no model tracks, trains or saves.

    A number given is kept in a variable, so that a traced step reads its present value. A
    `keras.Variable` given is read itself. A schedule given is called with the number of steps.

    Args:
        checks: by name, a function that returns a number or raises ValueError.
        check_followed: called with a name that is to follow a variable or a schedule; it may
            raise ValueError.
    """

    def __init__(
        self,
        checks: dict[str, Callable[[float], float]],
        check_followed: Callable[[str], None] = lambda name: None,
    ):
        self._checks, self._check_followed = checks, check_followed
        self._given: dict[str, Any] = {}
        self._variables: dict[str, keras.Variable] = {}
        self.steps: Callable[[], Any] = lambda: 0

    def set(self, name: str, value: Any) -> None:
        """Sets a number, a `keras.Variable` or a schedule."""
        if isinstance(value, dict):  # of a configuration
            value = keras.saving.deserialize_keras_object(value)
        if isinstance(value, (keras.Variable, Schedule)):
            self._check_followed(name)
            self._checks[name](self._present(value))
            self._given[name] = value
            return
        number = self._checks[name](value)
        self._given[name] = number
        if name in self._variables:
            self._variables[name].assign(number)

    def names(self, start: str) -> list[str]:
        """Returns the names that start so."""
        return [name for name in self._checks if name.startswith(start)]

    def get(self, name: str) -> float:
        """Returns the present value; AttributeError before there is one."""
        if name not in self._given:
            raise AttributeError(name)
        return self._present(self._given[name])

    def given(self) -> dict[str, Any]:
        """Returns by name what was set: numbers, variables and schedules."""
        return dict(self._given)

    def _present(self, given: Any) -> float:
        value = given(self.steps()) if isinstance(given, Schedule) else given
        return value if isinstance(value, float) else float(keras.ops.convert_to_numpy(value))

    def make_variables(self) -> None:
        """Makes the variables, in the present strategy's scope."""
        for name in self._given:
            self._variables[name] = keras.Variable(
                self.get(name), trainable=False, dtype="float32", autocast=False, name=name
            )

    def tensor(self, name: str) -> Any:
        """Returns the value for a step's graph; a float before there are variables."""
        given = self._given[name]
        if isinstance(given, Schedule):
            return tf.cast(given(self.steps()), tf.float32)
        if isinstance(given, keras.Variable):
            return tf.cast(tf.convert_to_tensor(given), tf.float32)
        if name in self._variables:
            return tf.convert_to_tensor(self._variables[name])
        return given

    def config(self, name: str) -> Any:
        """Returns what a configuration says: the number, or the schedule."""
        given = self._given[name]
        return (
            keras.saving.serialize_keras_object(given)
            if isinstance(given, Schedule)
            else self.get(name)
        )


class Setting(property):
    """A property that reads and sets `self._settings`."""


def setting(name: str, doc: str) -> Setting:
    """Returns the property of a number in `self._settings`."""
    return Setting(
        lambda self: self._settings.get(name),
        lambda self, value: self._settings.set(name, value),
        doc=doc,
    )


class LossSettings:
    """The numbers in a distiller's loss, beside a base that is a Keras model."""

    _settings: Settings

    temperature = setting("temperature", "T of the softened outputs, above 0.")
    student_loss_weight = setting("student_loss_weight", "Weight of the compiled loss.")
    kd_weight = setting("kd_weight", "The paper's lambda.")

    hint_weight = Setting(
        lambda self: self._get_hint_weight(),
        lambda self, value: self._set_hint_weight(value),
        doc="The paper's beta: one number, or a list with one per hint if there are several.",
    )

    def _get_hint_weight(self) -> Any:
        weights = [self._settings.get(name) for name in self._settings.names("hint_weight")]
        return weights if len(weights) > 1 else weights[0]

    def _hint_weight_config(self) -> Any:
        names = self._settings.names("hint_weight")
        weights = [self._settings.config(name) for name in names]
        return weights if len(weights) > 1 else weights[0]

    def _set_hint_weight(self, value: Any) -> None:
        names = self._settings.names("hint_weight")
        values = value if isinstance(value, (list, tuple)) else [value] * len(names)
        if len(values) != len(names):
            raise ValueError(
                f"hint_weight has {len(values)} numbers for {len(names)} hints: give one number, "
                "or one per hint"
            )
        for name, each in zip(names, values, strict=True):
            self._settings.set(name, each)

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras would track a setting's variable, train it and save it.
        if isinstance(getattr(type(self), name, None), Setting):
            getattr(type(self), name).fset(self, value)
        else:
            super().__setattr__(name, value)

    @staticmethod
    def _loss_settings(cached_temperature: float | None, num_hints: int) -> Settings:
        """Returns the settings; `cached_temperature` is the only one that a top-k cache allows."""

        def temperature(value: Any) -> float:
            number = check_number("temperature", value, above_zero=True)
            if cached_temperature not in (None, number):
                raise top_k(f"{number:g}")
            return number

        def followed(name: str) -> None:
            if name == "temperature" and cached_temperature is not None:
                raise top_k("one that changes")

        def top_k(given: str) -> Exception:
            return refusal("top_k_temperature", cached=f"{cached_temperature:g}", given=given)

        hints = [f"hint_weight_{i}" for i in range(num_hints)] if num_hints > 1 else ["hint_weight"]
        names = ("student_loss_weight", "kd_weight", *hints)
        weights = {name: functools.partial(check_number, name) for name in names}
        return Settings({"temperature": temperature, **weights}, followed)

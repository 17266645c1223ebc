"""Refuses teachers that are not trained models, or that training the student would change."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from aekd_tf.keras_private import flatten_layers
from aekd_tf.refusals import refusal


def check_models(teachers: Any) -> list[keras.Model]:
    """Returns the teachers as a list; one model need not be in a list.

    Raises:
        TypeError: something else than models.
        ValueError: no teacher.
    """
    if isinstance(teachers, keras.Model):
        return [teachers]
    if teachers is None or isinstance(teachers, (str, bytes)) or not isinstance(teachers, Iterable):
        raise refusal("not_teachers", kind=type(teachers).__name__)
    models = list(teachers)
    if not models:
        raise ValueError("an ensemble requires at least one teacher, got none")
    for index, teacher in enumerate(models):
        if not isinstance(teacher, keras.Model):
            raise ValueError(
                f"teacher {index} is a {type(teacher).__name__}: give keras.Model objects"
            )
    return models


def check_built(index: int, teacher: keras.Model) -> None:
    """Refuses a teacher whose layers would create random weights at the first batch."""
    for layer in flatten_layers(teacher):
        if not layer.built and _makes_weights(layer):
            raise refusal("teacher_unbuilt", index=index, name=teacher.name, layer=layer.name)


def _makes_weights(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer creates weights when it is built, by what its `build` calls."""
    if isinstance(layer, keras.layers.Normalization) and layer.input_mean is not None:
        return False
    code = getattr(inspect.unwrap(type(layer).build), "__code__", None)
    return code is not None and not {"add_weight", "EinsumDense"}.isdisjoint(code.co_names)


def check_separate(student: keras.Model, teachers: Sequence[keras.Model]) -> None:
    """Refuses a student whose training would change a variable of a teacher.

    These are the trainable variables it shares, and the statistics of batch norm layers that
    are not frozen.
    """
    trained = {id(variable) for variable in student.trainable_variables}
    for layer in flatten_layers(student):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            trained |= {id(variable) for variable in layer.non_trainable_variables}
    for index, teacher in enumerate(teachers):
        for variable in teacher.variables:
            if id(variable) in trained:
                raise refusal(
                    "shared_variable",
                    name=student.name,
                    variable=variable.path,
                    index=index,
                    teacher=teacher.name,
                )


def known_input_shape(model: keras.Model) -> Any:
    """Returns the shape of a built model's inputs; None if the model does not say."""
    try:
        return model.input_shape
    except (AttributeError, ValueError):
        return None

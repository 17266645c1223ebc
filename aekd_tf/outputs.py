"""What a model's outputs are: logits, or the probabilities of a softmax or sigmoid."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf

from aekd_tf.keras_private import made_by
from aekd_tf.refusals import refusal

# Stands in a teacher's logits for a class that it does not know; the lowest float16.
UNKNOWN = -65504.0

_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    tf.nn.softmax: "softmax",
    tf.nn.sigmoid: "sigmoid",
    tf.math.sigmoid: "sigmoid",
    keras.ops.softmax: "softmax",
    keras.ops.sigmoid: "sigmoid",
}
# What leaves values as they are.
_SHAPING = ("Cast", "Reshape", "Squeeze", "ExpandDims", "Identity", "Flatten", "Dropout", "Copy")


def squashing(model: keras.Model, key: Any = None) -> str | None:
    """Returns `"softmax"` or `"sigmoid"` if a model's graph ends in one, as far as it shows.

    Casts and reshapes behind it are passed over. A subclassed model does not show its graph.
    `key` names one of several outputs.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        return _of_operation(model.layers[-1]) if model.layers else None
    try:
        if key is not None:
            return _of_tensor(model.output[key])
        (tensor,) = model.outputs
        return _of_tensor(tensor)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None


def _of_tensor(tensor: Any) -> str | None:
    operation, inputs = made_by(tensor)
    kind = _of_operation(operation)
    if kind is None and _only_shapes(operation) and len(inputs) == 1:
        return _of_tensor(inputs[0])
    return kind


def _of_operation(operation: Any) -> str | None:
    if isinstance(operation, keras.Model):
        return squashing(operation)
    name = type(operation).__name__
    if name in ("Softmax", "Sigmoid"):
        return name.lower()
    return _FUNCTIONS.get(getattr(operation, "activation", None))


def _only_shapes(operation: Any) -> bool:
    linear = getattr(operation, "activation", None) is keras.activations.linear
    activation = isinstance(operation, keras.layers.Activation) and linear
    return activation or type(operation).__name__ in _SHAPING


def are_probabilities(outputs: Any) -> bool:
    """Returns whether `[N, K]`, K > 1, can only be what a softmax gives.

    No row is negative, and each sums to 1 within the rounding of the dtype it was computed in.
    Rows that are all exactly one-hot may be logits of a very sure model.
    """
    values = np.asarray(outputs)
    return rows_sum_to_1(values) and not np.isin(values.astype(np.float64), (0.0, 1.0)).all()


def rows_sum_to_1(outputs: Any) -> bool:
    """Returns whether `[N, K]`, K > 1, is not negative and its rows sum to 1 within rounding."""
    given = np.asarray(outputs)
    values = given.astype(np.float64)
    if values.ndim < 2 or values.shape[-1] < 2 or not values.size:
        return False
    if not np.isfinite(values).all() or values.min() < 0:
        return False
    # Half precision rounds each of K values and their sum; 1e-5 is float32's with some room.
    tolerance = max(1e-5, 8 * _rounding(given))
    return bool(np.abs(values.sum(-1) - 1).max() <= tolerance)


def picked(structure: Any, key: Any) -> Any:
    """Returns the part of a model's outputs that is distilled; all of them without a key."""
    return structure if key is None else structure[key]


def output_key(role: str, model: keras.Model, outputs: Any, output: Any) -> Any:
    """Returns the key or index of an output in the structure that a model gives.

    Args:
        role: what messages call the model.
        model: the model.
        outputs: what it gave.
        output: name or index; None for the only output.

    Raises:
        ValueError: no such output, or several outputs and none named; the message lists them.
    """
    if not isinstance(outputs, (dict, list, tuple)):
        if output in (None, 0):
            return None
        raise refusal("no_such_output", role=role, name=model.name, output=output, outputs=["one"])
    named = list(outputs) if isinstance(outputs, dict) else _output_names(model, len(outputs))
    if output is None:
        shown = (
            named
            if isinstance(outputs, dict)
            else [f"{name} {tuple(part.shape)}" for name, part in zip(named, outputs, strict=True)]
        )
        raise refusal("several_outputs", role=role, name=model.name, outputs=shown)
    if (
        isinstance(output, int)
        and not isinstance(output, bool)
        and -len(named) <= output < len(named)
    ):
        return named[output] if isinstance(outputs, dict) else output % len(named)
    if output not in named:
        raise refusal("no_such_output", role=role, name=model.name, output=output, outputs=named)
    return output if isinstance(outputs, dict) else named.index(output)


def known_key(role: str, model: keras.Model, output: Any) -> Any:
    """Returns `output_key` of a model whose graph shows its outputs; None for others."""
    try:
        outputs = model.output
    except (AttributeError, ValueError):
        return None
    return output_key(role, model, outputs, output)


def _output_names(model: keras.Model, count: int) -> list[str]:
    names = list(getattr(model, "output_names", None) or [])
    return names if len(names) == count else [str(index) for index in range(count)]


def of_output(structure: Any, key: Any, model: keras.Model) -> Any:
    """Returns the part of labels or sample weights that belongs to the output `key`.

    They are one for all outputs, in the outputs' order, or by the outputs' names.
    """
    if key is None or structure is None:
        return structure
    if isinstance(structure, dict):
        if isinstance(key, str):
            return structure.get(key)
        names = getattr(model, "output_names", None) or ()  # there may be fewer labels
        return structure.get(names[key]) if key < len(names) else None
    if isinstance(structure, (list, tuple)):
        names = _output_names(model, len(structure))
        return structure[names.index(key) if isinstance(key, str) else key]
    return structure


def between_0_and_1(outputs: Any) -> bool:
    """Returns whether all values that are finite may be probabilities."""
    values = np.asarray(outputs).astype(np.float64)
    values = values[np.isfinite(values)]
    room = max(1e-5, _rounding(np.asarray(outputs)))
    return not values.size or bool(values.min() >= 0 and values.max() <= 1 + room)


def _rounding(values: np.ndarray) -> float:
    """Returns the rounding of the narrowest float dtype that holds all values."""
    for dtype in (ml_dtypes.bfloat16, np.float16):
        if np.array_equal(values.astype(dtype).astype(np.float64), values.astype(np.float64)):
            return float(ml_dtypes.finfo(dtype).eps)
    return 0.0

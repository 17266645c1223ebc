"""What a model's outputs are: logits, or the probabilities of a softmax or sigmoid."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf

from aekd_tf.keras_private import made_by

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


def squashing(model: keras.Model) -> str | None:
    """Returns `"softmax"` or `"sigmoid"` if a model's graph ends in one, as far as it shows.

    Casts and reshapes behind it are passed over. A subclassed model does not show its graph.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        return _of_operation(model.layers[-1]) if model.layers else None
    try:
        (tensor,) = model.outputs
        return _of_tensor(tensor)
    except (AttributeError, TypeError, ValueError, IndexError):
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

"""Knows which layers an int8 file computes as `quantize_aware` simulates them."""

from __future__ import annotations

from typing import Any

import keras

from aekd_tf.export.graph import Call

_L = keras.layers
WEIGHTED = (_L.Conv1D, _L.Conv2D, _L.DepthwiseConv1D, _L.DepthwiseConv2D, _L.Dense)
# They multiply each channel by one number and add another.
SCALING = (_L.BatchNormalization, _L.Normalization, _L.Rescaling)
# They average within the range of their inputs, and then round to its steps again.
AVERAGES = (_L.AveragePooling1D, _L.AveragePooling2D)
MEANS = (_L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D)
# They choose or move values, which stay in the range of the inputs.
MOVING = (
    *(_L.MaxPooling1D, _L.MaxPooling2D, _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D),
    *(_L.Flatten, _L.Reshape, _L.ZeroPadding1D, _L.ZeroPadding2D),
    *(_L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D),
)
_OTHERS = (_L.InputLayer, _L.Add, _L.Concatenate, _L.ReLU, _L.Activation)
_CAPS = {keras.activations.relu: None, keras.activations.relu6: 6.0}


def is_addition(layer: Any) -> bool:
    """Tells whether this is an Add layer, or `x + y` of two tensors."""
    return type(layer).__name__ == "Add" and isinstance(layer, keras.Operation)


def is_linear(layer: Any) -> bool:
    """Tells whether this layer has no activation."""
    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def rectifier(layer: Any, name: str) -> keras.layers.Layer:
    """Returns a new layer for the activation of a layer, ReLU or ReLU6."""
    cap = layer.max_value if isinstance(layer, _L.ReLU) else _CAPS[layer.activation]
    return _L.ReLU(cap, name=name, dtype="float32")


def rectifies(layer: Any) -> bool:
    """Tells whether this layer is an activation of its own."""
    return type(layer) is _L.ReLU or (type(layer) is _L.Activation and not is_linear(layer))


def problem(call: Call) -> str | None:
    """Returns why a call cannot be simulated, its kind or a setting; None if it can."""
    layer, kind, rank = call.layer, type(call.layer), len(call.shape)
    if is_addition(layer):
        return None if len(call.inputs) > 1 else "Add of a constant"
    if kind not in (*WEIGHTED, *SCALING, *AVERAGES, *MEANS, *MOVING, *_OTHERS):
        return kind.__name__
    refused = {
        f"activation={_name(layer)}": not is_linear(layer) and layer.activation not in _CAPS,
        f"padding={getattr(layer, 'padding', None)!r}": getattr(layer, "padding", 0) == "causal",
        "groups": getattr(layer, "groups", 1) != 1,
        "channels first": getattr(layer, "data_format", None) == "channels_first",
        f"inputs of {rank} axes": kind in SCALING and rank not in (2, 3, 4),
        "inputs of more than 2 axes": kind is _L.Dense and rank != 2,
    }
    if kind is _L.BatchNormalization:
        refused["axis"] = layer.axis not in (-1, rank - 1)
        refused["renorm"] = layer.renorm
    if kind is _L.Normalization:
        refused["axis"] = layer.axis not in ((-1,), (rank - 1,), -1, rank - 1)
        refused["invert"] = layer.invert
    if kind is _L.ReLU:
        refused["negative_slope"] = layer.negative_slope != 0
        refused["threshold"] = layer.threshold != 0
        refused["max_value other than 6"] = layer.max_value not in (None, 6)
    reason = next((reason for reason, applies in refused.items() if applies), None)
    return reason and f"{kind.__name__} with {reason}"


def _name(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "")

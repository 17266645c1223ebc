"""Tells whether two models compute the same but for their weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from aekd_tf.keras_private import call_arguments, flatten_layers, producer, structures
from aekd_tf.teachers.adapter import TeacherAdapter

# Layers that hold more than their configuration and their variables say: code or tables.
_TELL_TOO_LITTLE = (
    "Discretization",
    "FlaxLayer",
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
)
# What a layer's configuration says that has no part in what it computes.
_IRRELEVANT = ("build_config", "name", "registered_name", "seed", "shared_object_id", "trainable")
_BEFORE_TRAINING = ("_constraint", "_initializer", "_regularizer")


class _UnknownError(Exception):
    """Raised where a configuration does not tell all."""


def architecture(model: keras.Model) -> tuple[Any, ...] | None:
    """Returns a hashable key that models share if only the values of their variables differ.

    Names do not count. The key is None where Keras's configurations do not tell all: for
    subclassed models but `TeacherAdapter`, for layers and functions that are not Keras's own, and
    for layers that keep code, tables or a state.
    """
    layers = flatten_layers(model)
    if not all(_tells_all(layer) for layer in layers):
        return None
    try:
        graph = _of_model(model)
    except (AttributeError, NotImplementedError, _UnknownError):  # Keras hides it, or has no words
        return None
    return graph, tuple((tuple(v.shape), v.dtype) for v in model.variables)


def _tells_all(layer: keras.layers.Layer) -> bool:
    own = type(layer).__module__.partition(".")[0] == "keras" or type(layer) is TeacherAdapter
    changed = {"call", "__call__"} & set(vars(layer))
    quantized = getattr(layer, "quantization_mode", None)
    stateful = getattr(layer, "stateful", False)
    known = type(layer).__name__ not in _TELL_TOO_LITTLE
    return own and known and not changed and not quantized and not stateful


def _of_model(model: keras.Model) -> tuple[Any, ...]:
    """Returns the key of a functional model or an adapter, as nested tuples."""
    if isinstance(model, TeacherAdapter):
        own: list[Any] = [model.input_size, model.outputs_kind, model.class_map]
        own += [model.output_name, model.inputs_key, model.dtype_policy.name]
        before = model.preprocessing
        if isinstance(before, keras.layers.Layer):
            before = _of_operation(before)
        # A function counts by identity, and being part of the key it stays alive.
        return "adapter", repr(own), before, _of_model(model.model)
    calls = _calls(model.outputs)
    numbers = {id(node): number for number, node in enumerate(calls)}
    operations: dict[int, int] = {}  # a layer that is called twice is one layer

    def place(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        node, index = producer(value)
        return f"tensor {numbers[id(node)]} {index}"

    found: list[Any] = []
    for node in calls:
        operation = node.operation
        new = id(operation) not in operations
        number = operations.setdefault(id(operation), len(operations))
        arguments = _frozen(keras.tree.map_structure(place, call_arguments(node)))
        found.append((number, _of_operation(operation) if new else None, arguments))
    ends = [keras.tree.map_structure(place, part) for part in structures(model)]
    several = len(model.inputs) > 1
    names = [tensor.name for tensor in model.inputs] if several else []  # a dict finds them
    return tuple(found), _frozen([ends, names])


def _calls(tensors: list[Any]) -> list[Any]:
    """Returns the calls that lead to tensors, each after those that it needs."""
    found: dict[int, Any] = {}
    waiting = [(producer(tensor)[0], False) for tensor in reversed(tensors)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            found[id(node)] = node
        elif id(node) not in found:
            waiting.append((node, True))
            inputs = [producer(tensor)[0] for tensor in node.input_tensors]
            waiting += [(each, False) for each in reversed(inputs)]
    return list(found.values())


def _of_operation(operation: Any) -> Any:
    if isinstance(operation, keras.Model):
        return _of_model(operation)
    config = {
        name: value
        for name, value in operation.get_config().items()
        if name not in _IRRELEVANT and not name.endswith(_BEFORE_TRAINING)
    }
    policy = getattr(operation, "dtype_policy", None)
    return (
        type(operation).__module__,
        type(operation).__qualname__,
        policy and policy.name,
        _frozen(config),
        _constants(operation),
    )


def _constants(layer: Any) -> Any:
    """Returns what `Normalization` keeps beside its variables: tensors made from them."""
    if not isinstance(layer, keras.layers.Normalization):
        return None
    values = [getattr(layer, name, None) for name in ("mean", "variance")]
    return _frozen([None if value is None else np.asarray(value) for value in values])


def _frozen(value: Any) -> Any:
    """Returns a part of a configuration as something hashable.

    Raises:
        _UnknownError: it is not Keras's own.
    """
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return type(value).__name__, value
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(_frozen(part) for part in value)
    if isinstance(value, (np.ndarray, np.generic)) or keras.ops.is_tensor(value):
        array = np.asarray(value)
        return array.dtype.name, array.shape, array.tobytes()
    if not isinstance(value, dict):
        raise _UnknownError
    if "class_name" not in value:
        return "dict", tuple((str(key), _frozen(part)) for key, part in value.items())
    module = str(value.get("module"))
    if module.partition(".")[0] != "keras":
        raise _UnknownError
    config = value.get("config")
    if module.startswith(("keras.layers", "keras.models", "keras.src.models")):
        config = {k: v for k, v in (config or {}).items() if k not in _IRRELEVANT}
    return module, value["class_name"], _frozen(config)

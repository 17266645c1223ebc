"""What tells one teacher from another, in memory or in a file that need not be loaded."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import sys
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.keras_private import flatten_layers
from aekd_tf.teachers.adapter import described

# What Keras writes into a configuration that does not change what a model computes.
_IRRELEVANT = ("build_config", "build_input_shape", "compile_config", "module", "shared_object_id")
_SIMPLE = (bool, int, float, str, bytes, type(None))


def teacher_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of all that a model's outputs depend on.

    That is its graph (layers, their configuration, constants and order), the code of functions
    and layers that are not Keras's own, and the weights. Names do not count.
    """
    content = hashlib.sha256()
    layers = flatten_layers(model)
    with described():
        # A subclass does not say in its own configuration what its layers are.
        configurations = [_configuration(part) for part in (model, *layers)]
    parts = [_without_names(configurations), [_own_code(layer) for layer in layers]]
    content.update(json.dumps(parts, sort_keys=True, default=repr).encode())
    for weight in model.get_weights():
        content.update(_array_digest(weight).encode())
    return content.hexdigest()


def _configuration(layer: keras.layers.Layer) -> Any:
    try:
        return keras.saving.serialize_keras_object(layer)
    except (NotImplementedError, TypeError, ValueError):  # a subclass without get_config
        return type(layer).__qualname__


def _own_code(layer: keras.layers.Layer) -> list[Any]:
    """Returns what a layer holds that its configuration does not say."""
    content: list[Any] = [type(layer).__name__]
    foreign = [cls for cls in type(layer).__mro__ if cls.__module__.partition(".")[0] not in _KNOWN]
    for cls in foreign:
        functions = {k: v for k, v in vars(cls).items() if isinstance(v, types.FunctionType)}
        content += [[name, function_digest(functions[name])] for name in sorted(functions)]
    for name, value in sorted(vars(layer).items()):
        if name.startswith("_") or name in _of_keras():
            continue
        if isinstance(value, types.FunctionType):
            content.append([name, function_digest(value)])
        elif foreign and not isinstance(value, (keras.layers.Layer, keras.Variable)):
            content.append([name, value_digest(value)])
    return content


_KNOWN = ("keras", "tensorflow", "aekd_tf", "builtins")


@functools.cache
def _of_keras() -> frozenset[str]:
    """Returns the attributes that every model has, and those that compiling it adds."""
    return frozenset({*vars(keras.Model()), "call", "optimizer", "stop_training"})


def function_digest(function: Any, outer: tuple[Any, ...] = ()) -> str:
    """Returns what tells a function from others: its module, its name, its code and its values.

    `outer` are the functions that led to it.
    """
    # The children of a script know its functions by another name.
    module = (function.__module__ or "").replace("__mp_main__", "__main__")
    place = f"{module}.{function.__qualname__}"
    if _is_library(module) or any(function is each for each in outer):
        return place
    outer = (*outer, function)
    cells = [_cell(cell, outer) for cell in function.__closure__ or ()]
    names = sorted(_names(function.__code__) & set(function.__globals__))
    used = [[name, _used(function, name, outer)] for name in names]
    defaults = value_digest([function.__defaults__, function.__kwdefaults__], outer)
    return f"{place} {_code(function.__code__)} {defaults!r} {cells!r} {used!r}"


def _used(function: Any, name: str, outer: tuple[Any, ...]) -> Any:
    """Returns what a function uses of a global: of a module, what its code names."""
    value = function.__globals__[name]
    if not isinstance(value, types.ModuleType):
        return value_digest(value, outer)
    if _is_library(value.__name__):
        return value.__name__
    names = sorted(_names(function.__code__) & set(vars(value)))
    return [value.__name__, [[each, value_digest(getattr(value, each), outer)] for each in names]]


@functools.cache
def _is_library(module: str) -> bool:
    """Returns whether a module is installed, so that its name says what is in it."""
    top = module.partition(".")[0]
    if top in _KNOWN or top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _cell(cell: Any, outer: tuple[Any, ...]) -> Any:
    try:
        return value_digest(cell.cell_contents, outer)
    except ValueError:  # empty
        return None


def value_digest(value: Any, outer: tuple[Any, ...] = ()) -> Any:
    """Returns a value as text.

    That is all of numbers, texts, arrays, variables, functions, Keras's layers, classes and
    objects of one's own, and of lists of them. Of anything else it is the kind alone.
    """
    if isinstance(value, _SIMPLE):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [value_digest(part, outer) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(part) for part in value)
    if isinstance(value, dict):
        return [[repr(key), value_digest(part, outer)] for key, part in value.items()]
    if isinstance(value, types.FunctionType):
        return function_digest(value, outer)
    if isinstance(value, functools.partial):
        return value_digest([value.func, value.args, value.keywords], outer)
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        return _array_digest(np.asarray(value))
    if isinstance(value, (tf.Variable, keras.Variable)):
        return _array_digest(np.asarray(value))
    if isinstance(value, keras.layers.Layer):
        config = json.dumps(_without_names(_configuration(value)), sort_keys=True, default=repr)
        return [config, [_array_digest(weight) for weight in value.get_weights()]]
    if hasattr(value, "python_function"):  # a tf.function
        return value_digest(value.python_function, outer)
    if isinstance(value, enum.Enum):
        return [repr(value), value_digest(value.value, outer)]
    return _own_object(value, outer)


def _own_object(value: Any, outer: tuple[Any, ...]) -> Any:
    """Returns a class or an object of one's own as text, with its functions and attributes."""
    cls = value if isinstance(value, type) else type(value)
    place = f"{cls.__module__}.{cls.__qualname__}".replace("__mp_main__", "__main__")
    plain = isinstance(value, types.SimpleNamespace)
    if any(value is each for each in outer) or (_is_library(cls.__module__) and not plain):
        return place
    outer = (*outer, value)
    own = {} if plain else dict(vars(cls))
    if value is not cls:
        own |= getattr(value, "__dict__", {})
        own |= {name: getattr(value, name, None) for name in getattr(cls, "__slots__", ())}
    kept = {name: part for name, part in own.items() if not _is_of_python(name, part)}
    return [place, [[name, value_digest(kept[name], outer)] for name in sorted(kept)]]


def _is_of_python(name: str, value: Any) -> bool:
    return name.startswith("__") and not isinstance(value, types.FunctionType)


def _array_digest(array: np.ndarray) -> str:
    return f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(part) for part in code.co_consts if isinstance(part, types.CodeType)]
    return set(code.co_names).union(*inner)


def _code(code: types.CodeType) -> str:
    constants = [
        _code(c) if isinstance(c, types.CodeType) else value_digest(c) for c in code.co_consts
    ]
    text = repr((code.co_code, constants, code.co_names))
    return hashlib.sha256(text.encode()).hexdigest()


def _without_names(content: Any) -> Any:
    """Numbers the layers' names in a configuration, which Keras numbers anew in each process.

    A name is replaced where a layer is named or referred to, and nowhere else: a layer that is
    called "relu" says nothing of another one's activation.
    """
    numbers: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str) and not _is_policy(part):
                numbers.setdefault(part["name"], f"#{len(numbers)}")
            for value in part.values():
                if not _is_policy(part):
                    collect(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                collect(value)

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            if _is_policy(part):
                return part
            kept = {k: renamed(v) for k, v in part.items() if k not in _IRRELEVANT}
            if isinstance(kept.get("name"), str):
                kept["name"] = numbers[kept["name"]]
            return kept
        if isinstance(part, (list, tuple)):
            place = [type(value) for value in part] == [str, int, int]
            first = [numbers.get(part[0], part[0])] if place else []  # a tensor, by its layer
            return first + [renamed(value) for value in part[len(first) :]]
        return part

    collect(content)
    return renamed(content)


def _is_policy(part: dict[str, Any]) -> bool:
    """Returns whether a configuration is of a dtype policy, whose name is its content."""
    return str(part.get("class_name", "")).endswith("DTypePolicy")

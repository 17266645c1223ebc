"""What tells one teacher from another, in memory or in a file that need not be loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Sequence
from typing import Any

import keras

from aekd_tf import files
from aekd_tf.keras_private import flatten_layers
from aekd_tf.teachers.adapter import described

# What Keras writes into a configuration that does not change what a model computes.
_IRRELEVANT = ("build_config", "build_input_shape", "compile_config", "module", "shared_object_id")
_SIMPLE = (bool, int, float, str, bytes, type(None))


class TeacherSource:
    """A teacher that is a model, or a file that is loaded when it is needed."""

    def __init__(self, teacher: keras.Model | str, safe_mode: bool = True):
        self._teacher, self._safe_mode = teacher, safe_mode
        self.file = files.sha256(teacher) if isinstance(teacher, str) else None

    @functools.cached_property
    def model(self) -> keras.Model:
        if isinstance(self._teacher, str):
            return keras.models.load_model(self._teacher, compile=False, safe_mode=self._safe_mode)
        return self._teacher

    def digest(self, manifests: Sequence[dict[str, Any]]) -> str:
        """Returns the teacher's digest, without loading a file that the manifests know."""
        known = {str(content.get("teacher")) for content in manifests}
        if self.file and len(known) == 1 and all(c.get("file") == self.file for c in manifests):
            return known.pop()
        return teacher_digest(self.model)


def teacher_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of all that a model's outputs depend on.

    That is its graph (layers, their configuration, constants and order), the code of functions
    and layers that are not Keras's own, and the weights. Names do not count.
    """
    content = hashlib.sha256()
    with described():
        parts = [_configuration(model), *(_own_code(layer) for layer in flatten_layers(model))]
    content.update(json.dumps(_without_names(parts), sort_keys=True, default=repr).encode())
    for weight in model.get_weights():
        content.update(repr((weight.shape, weight.dtype)).encode())
        content.update(weight.tobytes())
    return content.hexdigest()


def _configuration(model: keras.Model) -> Any:
    try:
        return keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):  # a subclass without get_config
        return type(model).__qualname__


def _own_code(layer: keras.layers.Layer) -> list[Any]:
    """Returns what a layer holds that its configuration does not say."""
    content: list[Any] = [type(layer).__name__]
    foreign = [cls for cls in type(layer).__mro__ if cls.__module__.partition(".")[0] not in _KNOWN]
    for cls in foreign:
        functions = {k: v for k, v in vars(cls).items() if isinstance(v, types.FunctionType)}
        content += [[name, function_digest(functions[name])] for name in sorted(functions)]
    for name, value in sorted(vars(layer).items()):
        if isinstance(value, types.FunctionType) and name not in _WRAPPED_BY_KERAS:
            content.append([name, function_digest(value)])
        elif foreign and not name.startswith("_") and isinstance(value, _SIMPLE):
            content.append([name, repr(value)])
    return content


_KNOWN = ("keras", "tensorflow", "aekd_tf", "builtins")
_WRAPPED_BY_KERAS = ("build", "call", "quantize", "name")


def function_digest(function: Any) -> str:
    """Returns what tells a function from others: its module, its name and its code."""
    place = f"{function.__module__}.{function.__qualname__}"
    if function.__module__.partition(".")[0] in _KNOWN:
        return place
    cells = [_cell(cell) for cell in function.__closure__ or ()]
    return f"{place} {_code(function.__code__)} {function.__defaults__!r} {cells!r}"


def _cell(cell: Any) -> Any:
    try:
        value = cell.cell_contents
    except ValueError:  # empty
        return None
    if isinstance(value, types.FunctionType):
        return function_digest(value)
    return value if isinstance(value, (*_SIMPLE, tuple)) else type(value).__name__


def _code(code: types.CodeType) -> str:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    text = repr((code.co_code, constants, code.co_names))
    return hashlib.sha256(text.encode()).hexdigest()


def _without_names(content: Any) -> Any:
    """Numbers the names in a configuration, which Keras numbers anew in each process."""
    numbers: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                numbers.setdefault(part["name"], f"#{len(numbers)}")
            for value in part.values():
                collect(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                collect(value)

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: renamed(v) for k, v in part.items() if k not in _IRRELEVANT}
        if isinstance(part, (list, tuple)):
            return [renamed(value) for value in part]
        return numbers.get(part, part) if isinstance(part, str) else part

    collect(content)
    return renamed(content)

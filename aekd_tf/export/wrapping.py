"""Makes the model that is exported: the student in float32, with what goes around it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.data.tfds import first_line
from aekd_tf.keras_private import flatten_layers
from aekd_tf.outputs import picked, squashing
from aekd_tf.refusals import refusal

_HALF = ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Exported:
    """The model that is exported.

    Attributes:
        student: the student.
        model: what is written: the student, or a model with something around it.
        inputs: its inputs as Keras tensors, in the structure that it takes.
        outputs: its outputs, likewise.
        key: key or index of the output that accuracy and agreement look at; None for the only
            one.
    """

    student: keras.Model
    model: keras.Model
    inputs: Any
    outputs: Any
    key: Any

    @property
    def name(self) -> str:
        """Returns the name of the student."""
        return self.student.name

    @property
    def flat_inputs(self) -> list[Any]:
        """Returns the inputs in the order in which arrays are given."""
        return keras.tree.flatten(self.inputs)

    @property
    def position(self) -> int:
        """Returns the place of the output `key` among all outputs."""
        count = len(keras.tree.flatten(self.outputs))
        return picked(keras.tree.pack_sequence_as(self.outputs, list(range(count))), self.key)

    @property
    def num_outputs(self) -> int:
        """Returns the size of the last axis of the output `key`."""
        return keras.tree.flatten(self.outputs)[self.position].shape[-1]

    def traced(self) -> Any:
        """Returns a `tf.function` from arrays, in the order of `flat_inputs`, to all outputs."""

        def call(*arrays: Any) -> Any:
            given = keras.tree.pack_sequence_as(self.inputs, list(arrays))
            return keras.tree.flatten(self.model(given, training=False))

        specs = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in self.flat_inputs]
        function = tf.function(call, input_signature=specs)
        try:
            function.get_concrete_function()
        except Exception as error:
            raise _uncallable(self.student, self.inputs, error) from error
        return function


def has_loops(function: Any) -> bool:
    """Tells whether the graph of a `tf.function` has loops, as recurrent layers have."""
    graph = function.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for part in graph.library.function for n in part.node_def)]
    return any("While" in node.op for node in nodes)


@contextlib.contextmanager
def in_float32(student: keras.Model, preprocessing: keras.layers.Layer | None) -> Iterator[None]:
    """Lets mixed-precision layers compute in float32 while the block lasts.

    Raises:
        ValueError: a layer whose weights are in half precision.
    """
    parts = [student] if preprocessing is None else [student, preprocessing]
    layers = {id(layer): layer for part in parts for layer in flatten_layers(part)}.values()
    changed = {
        id(layer): (layer, layer.dtype_policy)
        for layer in layers
        if layer.dtype_policy.compute_dtype in _HALF
    }
    for layer, policy in changed.values():
        if policy.variable_dtype in _HALF and layer.weights:
            raise refusal("export_half", name=student.name, dtype=policy.variable_dtype)
    usual = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float32")
        for layer, _ in changed.values():
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in changed.values():
            layer.dtype_policy = policy
        keras.config.set_dtype_policy(usual)


def wrapped(
    student: keras.Model,
    key: Any,
    *,
    preprocessing: Any,
    probabilities: bool,
    itself: bool,
    example: Any,
) -> Exported:
    """Returns the model that is exported.

    Args:
        student: built model.
        key: key of the distilled output; None if none was named.
        preprocessing: layer or model in front, or None.
        probabilities: whether a softmax follows.
        itself: whether the student is written itself if nothing goes around it; else it may be
            wrapped in a functional model, whose inputs have names.
        example: a batch of inputs, which shows the dtypes that a subclassed student takes; or
            None.
    """
    plain = preprocessing is None and not probabilities
    if plain and _says_its_inputs(student):
        inputs, outputs = _own(student, "input"), _own(student, "output")
        return Exported(student, student, inputs, outputs, _key(outputs, key))
    shown = preprocessing if getattr(preprocessing, "inputs", None) is not None else student
    inputs = _inputs(shown, example)
    try:
        given = inputs if preprocessing is None else preprocessing(inputs)
        outputs = student(given, training=False)
    except Exception as error:
        if preprocessing is None:
            raise _uncallable(student, inputs, error) from error
        raise refusal(
            "preprocessing_misfit",
            preprocessing=preprocessing.name,
            name=student.name,
            reason=reason_of(error),
        ) from error
    key = _key(outputs, key)
    if probabilities:
        outputs = _with_softmax(student, outputs, key)
    if plain and itself:
        return Exported(student, student, inputs, outputs, key)
    model = keras.Model(inputs, outputs, name=student.name)
    return Exported(student, model, inputs, outputs, key)


def _uncallable(student: keras.Model, inputs: Any, error: Exception) -> Exception:
    shown = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in keras.tree.flatten(inputs)]
    return refusal("export_call", name=student.name, inputs=shown, reason=reason_of(error))


def reason_of(error: Exception) -> str:
    """Returns an error's message in one line: of Keras's long ones, the part that says why."""
    text = str(error)
    for pattern in (r"Could not locate \w+ '[^']*'", r"\x1b\[1m(.+?)\x1b\[0m"):
        if match := re.search(pattern, text, re.DOTALL):
            return " ".join(match[match.lastindex or 0].split())
    return first_line(error)


def _says_its_inputs(student: keras.Model) -> bool:
    """Tells whether a model's inputs have names and dtypes that every format can keep."""
    inputs = getattr(student, "inputs", None) or ()
    fits = [t.name.isidentifier() and t.dtype not in _HALF for t in inputs]
    return bool(fits) and all(fits)


def _own(model: keras.Model, which: str) -> Any:
    """Returns a functional model's `"input"` or `"output"` in its structure."""
    if isinstance(model, keras.Sequential):
        return getattr(model, f"{which}s")[0]
    return getattr(model, which)


def _key(outputs: Any, key: Any) -> Any:
    """Returns the key of the distilled output, or of the first of several."""
    if key is not None or not isinstance(outputs, (dict, list, tuple)):
        return key
    return next(iter(outputs)) if isinstance(outputs, dict) else 0


def _inputs(model: Any, example: Any) -> Any:
    """Returns new inputs of the shapes, dtypes and names that a model takes."""
    if getattr(model, "inputs", None) is not None:
        own = _own(model, "input")
        keys = {id(t): key for key, t in own.items()} if isinstance(own, dict) else {}
        return keras.tree.map_structure(
            lambda t: _input(t.shape, t.dtype, keys.get(id(t), t.name)), own
        )
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None:
        raise refusal("export_unbuilt", name=model.name)
    return _of_shapes(shapes, example, "inputs")


def _of_shapes(shapes: Any, example: Any, name: str) -> Any:
    """Returns inputs of a structure of shapes, integers where the example has integers."""
    if isinstance(shapes, dict):
        return {key: _of_shapes(part, _part(example, key), key) for key, part in shapes.items()}
    if shapes and isinstance(shapes[0], (dict, list, tuple)):
        return [
            _of_shapes(part, _part(example, index), f"{name}_{index}")
            for index, part in enumerate(shapes)
        ]
    dtype = keras.backend.standardize_dtype(getattr(example, "dtype", "float32"))
    counts = dtype.startswith(("int", "uint", "bool"))
    return _input(shapes, dtype if counts else "float32", name)


def _part(example: Any, key: Any) -> Any:
    try:
        return example[key]
    except (TypeError, KeyError, IndexError):
        return None


def _input(shape: Any, dtype: Any, name: str) -> Any:
    dtype = keras.backend.standardize_dtype(dtype)
    dtype = "float32" if dtype in _HALF else dtype
    return keras.Input(tuple(shape)[1:], dtype=dtype, name=re.sub(r"\W", "_", name))


def _with_softmax(student: keras.Model, outputs: Any, key: Any) -> Any:
    tensor = picked(outputs, key)
    kind = squashing(student, key)
    if kind is not None:
        raise refusal("probabilities", name=student.name, kind=f"those of a {kind} already")
    if len(tensor.shape) < 2 or tensor.shape[-1] == 1:
        raise refusal("probabilities", name=student.name, kind=f"{tuple(tensor.shape)}")
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")(tensor)
    if key is None:
        return softmax
    if isinstance(outputs, dict):
        return {**outputs, key: softmax}
    return [softmax if index == key else part for index, part in enumerate(outputs)]

"""Copies a functional model, with rounding wherever its int8 file rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from aekd_tf.export.fake_quantization import FakeQuantized, MovingRange, SharedRange
from aekd_tf.export.graph import Call, Graph
from aekd_tf.export.supported import (
    AVERAGES,
    MEANS,
    MOVING,
    SCALING,
    WEIGHTED,
    is_addition,
    is_linear,
    rectifier,
    rectifies,
)

_L = keras.layers
# What the name of a layer ends in unless it is the last one, and a function of the name.
_Step = tuple[str, Callable[[str], Any]]


class Copy:
    """Copies a graph, with a layer that rounds after each operation of the file.

    The converter joins a convolution, a batch norm and a rectifier into one operation. The
    inputs of a concatenation are rounded in its range. The last layer of an operation has the
    name of the source's.

    Args:
        graph: the calls to copy.
        bits: bits of the kernels' values.

    Attributes:
        inputs, outputs: the tensors of the copy, flattened.
    """

    def __init__(self, graph: Graph, bits: int):
        self._graph, self._bits = graph, bits
        self._tensors: list[Any] = []
        # The range that each tensor is rounded in; None before it is rounded.
        self._ranges: list[MovingRange | None] = []
        self._inputs: dict[int, Any] = {}
        self._weighted: dict[Any, FakeQuantized] = {}
        self._weights: list[tuple[keras.layers.Layer, Any]] = []
        self._names: set[str] = set()
        for position in range(len(graph.calls)):
            tensor, its_range = self._copied(position)
            self._tensors.append(tensor)
            self._ranges.append(its_range)
        self.inputs = [self._inputs[position] for position in graph.inputs]
        self.outputs = [self._tensors[position] for position in graph.outputs]
        for layer, weights in self._weights:
            layer.set_weights(weights)

    def _copied(self, position: int) -> tuple[Any, MovingRange | None]:
        """Returns the copy of a call's output, and the range that it is rounded in."""
        call = self._graph.calls[position]
        layer, kind = call.layer, type(call.layer)
        if kind is _L.InputLayer:
            return self._input(position)
        if self._folds(position):  # computed where the batch norm is
            return None, None
        x, before = self._tensors[call.inputs[0]], self._ranges[call.inputs[0]]
        if kind in MOVING or (kind is _L.Activation and is_linear(layer)):
            return self._renewed(layer)(x), before
        if kind in AVERAGES:
            assert before is not None  # only rectifiers and concatenations take what waits
            average = self._renewed(layer, self._unique(f"{layer.name}_average"))(x)
            name = self._unique(layer.name)
            return SharedRange(before.name, name=name, dtype="float32")(average), before
        if is_addition(layer):
            return self._sum(position)
        if kind is _L.Concatenate:
            parts = [self._tensors[each] for each in call.inputs]
            return self._rounded(
                position, parts, [("joined", lambda name: self._renewed(layer, name))]
            )
        if kind in SCALING and self._folds(call.inputs[0]):
            weighted = self._graph.calls[call.inputs[0]]
            x = self._tensors[weighted.inputs[0]]
            return self._rounded(position, x, [self._fake_quantized(weighted, layer)])
        if kind in SCALING:
            return self._scaled(position, x)
        steps: list[_Step] = []
        if kind in WEIGHTED:
            steps.append(self._fake_quantized(call))
        if kind in MEANS:
            steps.append(("mean", lambda name: self._renewed(layer, name)))
        if rectifies(layer) or not is_linear(layer):
            if kind in WEIGHTED and not self._joins(call):
                steps.append(("linear", _moving_range))
            steps.append(("relu", lambda name: rectifier(layer, name)))
        return self._rounded(position, x, steps)

    def _input(self, position: int) -> tuple[Any, MovingRange]:
        layer = self._graph.calls[position].layer
        given = keras.Input(
            batch_shape=layer.batch_shape, name=self._unique(layer.name), dtype="float32"
        )
        self._inputs[position] = given
        its_range = _moving_range(self._unique(f"{layer.name}_range"))
        return its_range(given), its_range

    def _folds(self, position: int) -> bool:
        """Tells whether a batch norm follows that is computed together with this call."""
        layer, users = self._graph.calls[position].layer, self._graph.consumers(position)
        if type(layer) not in WEIGHTED or not is_linear(layer) or len(users) != 1:
            return False
        norm = users[0] and users[0].layer
        return (
            type(norm) is _L.BatchNormalization
            and self._graph.times_called(layer) == self._graph.times_called(norm) == 1
        )

    def _waits(self, position: int) -> bool:
        """Tells whether the file rounds this output only after the one call that takes it."""
        users = self._graph.consumers(position)
        if len(users) != 1 or users[0] is None:
            return False
        call, user = self._graph.calls[position], users[0].layer
        if type(user) is _L.Concatenate:
            return True
        return rectifies(user) and is_linear(call.layer) and self._joins(call)

    def _joins(self, call: Call) -> bool:
        """Tells whether the file computes a call together with a rectifier after it."""
        kind, images = type(call.layer), len(call.shape) == 4
        return (
            is_addition(call.layer)
            or kind is _L.Dense
            or (kind in (*WEIGHTED, *SCALING) and images)
        )

    def _rounded(self, position: int, x: Any, steps: list[_Step]) -> tuple[Any, MovingRange | None]:
        """Applies new layers in turn, and rounds unless the file rounds later."""
        name, waits = self._graph.calls[position].layer.name, self._waits(position)
        if not waits:
            steps = [*steps, ("", _moving_range)]
        layer = None
        for step, (ending, make) in enumerate(steps, start=1):
            layer = make(self._unique(name if step == len(steps) else f"{name}_{ending}"))
            x = layer(x)
        return x, None if waits else layer

    def _sum(self, position: int) -> tuple[Any, MovingRange | None]:
        """Adds two at a time, as the file does."""
        call = self._graph.calls[position]
        total, *others = (self._tensors[each] for each in call.inputs)
        for number, other in enumerate(others[:-1], start=2):
            name = f"{call.layer.name}_of_{number}"
            total = _L.Add(name=self._unique(f"{name}_sum"), dtype="float32")([total, other])
            total = _moving_range(self._unique(name))(total)
        steps: list[_Step] = [("sum", lambda name: _L.Add(name=name, dtype="float32"))]
        return self._rounded(position, [total, others[-1]], steps)

    def _scaled(self, position: int, x: Any) -> tuple[Any, MovingRange | None]:
        """Multiplies and shifts channels by a convolution of size 1."""
        call = self._graph.calls[position]
        layer, shape, channels = call.layer, call.shape, int(call.shape[-1] or 0)
        kind = _L.DepthwiseConv1D if len(shape) == 3 else _L.DepthwiseConv2D
        norm = layer if type(layer) is _L.BatchNormalization else None
        scaling = kind(1, use_bias=norm is None, trainable=False, name=f"{layer.name}_scaling")
        ones = np.ones([*[1] * scaling.rank, channels, 1], np.float32)
        if norm is None:
            scale, offset = scale_and_offset(layer)
            weights = [ones * scale[:, None], np.zeros(channels) + offset]
        else:
            weights = [ones]
        steps = [self._fake_quantized(call, norm, (scaling, weights))]
        if len(shape) == 2:
            flat = [1, 1, channels], [channels]
            steps = [
                ("image", lambda name: _L.Reshape(flat[0], name=name, dtype="float32")),
                *steps,
                ("vector", lambda name: _L.Reshape(flat[1], name=name, dtype="float32")),
            ]
        return self._rounded(position, x, steps)

    def _fake_quantized(self, call: Call, norm: Any = None, scaling: Any = None) -> _Step:
        """Returns the step that computes a call, and the batch norm after it.

        A layer that is called again has one copy. `scaling` are the layer and the weights that
        compute a call of a layer without a kernel.
        """
        its_range = self._ranges[call.inputs[0]]
        layer, weights = scaling or (call.layer, call.layer.get_weights())

        def make(name: str) -> FakeQuantized:
            if call.layer not in self._weighted:
                config = {"activation": None} if hasattr(layer, "activation") else {}
                inner = renewed(layer, f"{name}_weights", **config)
                its_norm = norm and renewed(norm, f"{name}_norm")
                self._weights.append((inner, weights))
                if norm is not None:
                    self._weights.append((its_norm, norm.get_weights()))
                once = self._graph.times_called(call.layer) == 1
                self._weighted[call.layer] = FakeQuantized(
                    inner,
                    its_norm,
                    self._bits,
                    its_range.name if once and its_range is not None else None,
                    name=name,
                    dtype="float32",
                )
            return self._weighted[call.layer]

        return "computed", make

    def _renewed(self, layer: Any, name: str | None = None) -> Any:
        return renewed(layer, name or self._unique(layer.name))

    def _unique(self, name: str) -> str:
        number = 0
        while (given := f"{name}_{number}" if number else name) in self._names:
            number += 1
        self._names.add(given)
        return given


def _moving_range(name: str) -> MovingRange:
    return MovingRange(name=name, dtype="float32")


def renewed(layer: Any, name: str, **config: Any) -> Any:
    """Returns a layer of the same settings that computes in float32."""
    return type(layer).from_config(
        {**layer.get_config(), "dtype": "float32", "name": name, **config}
    )


def scale_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factor and the summand per channel, or one for all, of a layer's outputs."""
    if type(layer) is _L.Rescaling:
        return np.ravel(layer.scale), np.ravel(layer.offset)
    mean, variance = (
        np.ravel(keras.ops.convert_to_numpy(each)) for each in (layer.mean, layer.variance)
    )
    scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    return scale, -mean * scale

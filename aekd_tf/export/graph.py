"""Reads a functional model as a list of layer calls, nested models unfolded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from aekd_tf.keras_private import made_by, output_index


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        layer: a layer, or an operation of `keras.ops`.
        inputs: positions in the list of the calls that gave its inputs.
        shape: shape of its output, with the batch.
    """

    layer: Any
    inputs: tuple[int, ...]
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """The calls of a functional model, each after those that it depends on.

    Attributes:
        calls: all calls; an InputLayer's has no inputs.
        inputs: positions of the calls that are the model's inputs, flattened.
        outputs: positions of the calls that give the model's outputs, flattened.
    """

    calls: list[Call]
    inputs: list[int]
    outputs: list[int]

    def consumers(self, position: int) -> list[Call | None]:
        """Returns the calls that take an output, once per use; None stands for the model's."""
        users: list[Call | None] = [
            call for call in self.calls for given in call.inputs if given == position
        ]
        return users + [None] * self.outputs.count(position)

    def times_called(self, layer: Any) -> int:
        """Returns how often the model calls a layer."""
        return sum(call.layer is layer for call in self.calls)


def graph_of(model: keras.Model) -> Graph:
    """Returns the calls of a functional or sequential model."""
    calls: list[Call] = []
    ends = _positions([*model.inputs, *model.outputs], {}, calls)
    return Graph(calls, ends[: len(model.inputs)], ends[len(model.inputs) :])


def _positions(outputs: Sequence[Any], known: dict[int, int], calls: list[Call]) -> list[int]:
    """Adds the calls behind `outputs` to `calls` and returns the positions of theirs."""
    waiting = list(outputs)
    while waiting:
        tensor = waiting[-1]
        if id(tensor) in known:
            waiting.pop()
            continue
        layer, inputs = made_by(tensor)
        missing = [given for given in inputs if id(given) not in known]
        waiting += missing
        if missing:
            continue
        given = tuple(known[id(each)] for each in inputs)
        if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
            inner = dict(zip(map(id, layer.inputs), given, strict=True))
            known[id(tensor)] = _positions(layer.outputs, inner, calls)[output_index(tensor)]
        else:
            calls.append(Call(layer, given, tuple(tensor.shape)))
            known[id(tensor)] = len(calls) - 1
    return [known[id(output)] for output in outputs]

"""Makes a student that trains with the rounding of its int8 file."""

from __future__ import annotations

from typing import Any

import keras

from aekd_tf.export.copying import Copy
from aekd_tf.export.fake_quantization import FakeQuantized
from aekd_tf.export.graph import graph_of
from aekd_tf.export.supported import problem
from aekd_tf.refusals import refusal

BITS = range(2, 9)


@keras.saving.register_keras_serializable("aekd_tf")
class QuantizationAwareModel(keras.Model):
    """A student whose kernels and values are rounded as in its int8 file.

    `quantize_aware` makes it. It trains, saves and loads as any functional model.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def quantize_aware_bits(self) -> int:
        """Returns the bits of the kernels' values."""
        return next(layer.bits for layer in self.layers if isinstance(layer, FakeQuantized))


def quantize_aware(student: keras.Model, *, weight_bits: int = 8) -> keras.Model:
    """Makes a copy of a student that learns with the rounding of its int8 file.

    """
    graph = graph_of(student)
    copy = Copy(graph, weight_bits)
    return QuantizationAwareModel(
        keras.tree.pack_sequence_as(student.input, copy.inputs),
        keras.tree.pack_sequence_as(student.output, copy.outputs),
        name=student.name,
    )

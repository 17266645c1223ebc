"""Makes a student that trains with the rounding of its int8 file."""

from __future__ import annotations

from typing import Any

import keras

from aekd_tf.checks import check_weight_bits
from aekd_tf.export.copying import Copy
from aekd_tf.export.fake_quantization import FakeQuantized, SharedRange
from aekd_tf.export.graph import graph_of
from aekd_tf.export.supported import problem
from aekd_tf.refusals import refusal


@keras.saving.register_keras_serializable("aekd_tf")
class QuantizationAwareModel(keras.Model):
    """A student whose kernels and values are rounded as in its int8 file.

    `quantize_aware` makes it. It trains, saves and loads as any functional model.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.dtype_policy = "float32"  # whatever the global policy is
        for layer in self.layers:
            if isinstance(layer, (FakeQuantized, SharedRange)) and layer.reads is not None:
                layer.bounds_read = self.get_layer(layer.reads).bounds

    @property
    def quantize_aware_bits(self) -> int:
        """Returns the bits of the kernels' values, by which an export recognizes this model."""
        return next(layer.bits for layer in self.layers if isinstance(layer, FakeQuantized))


def quantize_aware(student: keras.Model, *, weight_bits: int = 8) -> keras.Model:
    """Returns a copy of a student that learns with the rounding of its int8 file.

    Quantization after training rounds a student that never learned to bear it. The copy starts
    from the student's weights and rounds in every step: kernels per channel, Dense kernels per
    tensor, and the values between two operations, in ranges that follow those of the batches.
    Gradients pass as if nothing was rounded. Batch norm is folded into the kernel before it, as
    the converter folds it.

    Train it as any student, a tenth as long as the student at a tenth of the learning rate.
    `EnsembleDistiller.fit` keeps ranges and batch norm still for the last tenth of its steps.
    With another `fit`, do the same by the callback `aekd_tf.export.freezing.FreezeRanges`. The
    int8 file, which needs no calibration, then computes what the training saw.

    Layers of the student keep their names, for hints and outputs; an output is rounded. The
    copy computes in float32 whatever the student's precision, and its inputs are float32.

    Args:
        student: functional or sequential model, built. It stays as it is and may be a teacher.
            It may hold Conv1D, Conv2D, DepthwiseConv1D and 2D, Dense, BatchNormalization, ReLU
            and ReLU6, Add, Concatenate, pooling, ZeroPadding, Flatten, Reshape, Dropout,
            Rescaling, Normalization, and models of these. A batch norm that follows none of the
            first five becomes a convolution of size 1.
        weight_bits: bits of the kernels' values, 2 to 8. The file holds 8, and values of fewer
            bits exactly.

    Returns:
        A model with variables of its own, and `quantize_aware_bits`, which is `weight_bits`.
        Before its first training step it rounds kernels only.

    Raises:
        ValueError: `weight_bits` is out of range; `student` is not functional; it has layers
            that cannot be simulated, and the message names them.

    Example::

        import keras
        import numpy as np
        from aekd_tf import quantize_aware

        student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        aware = quantize_aware(student)  # train it as a student of an EnsembleDistiller
        x = np.random.rand(20, 4).astype("float32")
        print(aware.quantize_aware_bits, aware(x).shape)  # 8 (20, 3)
        print(float(abs(aware(x) - student(x)).numpy().max()) < 0.1)  # True

    References:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018.
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
        whitepaper", arXiv:1806.08342, 2018.
    """
    check_weight_bits(weight_bits)
    if not getattr(student, "outputs", None):
        kind, name = type(student).__name__, getattr(student, "name", "student")
        raise refusal("not_functional", name=name, kind=kind)
    graph = graph_of(student)
    problems = {call.layer.name: problem(call) for call in graph.calls}
    refused = [f"{name}: {reason}" for name, reason in problems.items() if reason]
    if refused:
        raise refusal("not_quantizable", name=student.name, layers=refused)
    copy = Copy(graph, weight_bits)
    return QuantizationAwareModel(
        structured(student, "input", copy.inputs),
        structured(student, "output", copy.outputs),
        name=student.name,
    )


def structured(model: keras.Model, end: str, tensors: list[Any]) -> Any:
    """Returns tensors in the structure of a model's `input` or `output`."""
    if isinstance(model, keras.Sequential):
        return tensors[0]
    return keras.tree.pack_sequence_as(getattr(model, end), tensors)

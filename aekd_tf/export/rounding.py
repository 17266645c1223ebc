"""Rounds kernels and values in float32 to what 8 bits hold.

Inference uses TensorFlow's own rounding operations, whose ranges the LiteRT converter reads.
"""

from __future__ import annotations

import tensorflow as tf

# The smallest range of a channel, as a share of the largest one's. A file's bias is a whole
# number in units of the range: at a narrower one it could overflow.
NARROWEST = 1 / 1024
TINY = 1e-9


def rounded(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Returns values rounded to 256 steps from `low` to `high`; as they are if both are 0."""
    steps = tf.quantization.fake_quant_with_min_max_vars(values, low, high, 8)
    steps = tf.where(high > low, steps, values)
    return with_gradient_of(tf.clip_by_value(values, low, high), steps) if training else steps


def ranges(kernel: tf.Tensor, bias: tf.Tensor, per_channel: bool = True) -> tf.Tensor:
    """Returns the largest size that the values of a kernel may have, `[channels]` or scalar.

    Args:
        kernel: `[..., channels]`.
        bias: `[channels]`, which a file counts in units of these ranges.
        per_channel: whether each channel has a range of its own.
    """
    size = tf.reduce_max(tf.abs(tf.stop_gradient(kernel)), list(range(kernel.shape.rank - 1)))
    largest_bias = tf.reduce_max(tf.abs(tf.stop_gradient(bias)))
    least = NARROWEST * (tf.reduce_max(size) + largest_bias) + TINY
    return tf.maximum(size if per_channel else tf.reduce_max(size), least)


def values_per_sign(bits: int) -> int:
    """Returns how many of a kernel's 2^bits - 1 values are above 0."""
    return 2 ** (bits - 1) - 1


def rounded_kernel(
    kernel: tf.Tensor, top: tf.Tensor, bits: int, training: bool | None = None
) -> tf.Tensor:
    """Returns a kernel `[..., channels]` that takes 2^bits - 1 values from -top to top.

    Fewer than 8 bits use the middle values of 8, so that an int8 file holds them exactly.
    """
    values, count = kernel, values_per_sign(bits)
    if bits < 8:
        values = tf.round(tf.clip_by_value(kernel, -top, top) * (count / top)) * (top / count)
        top *= 127 / count
    round_to = (
        tf.quantization.fake_quant_with_min_max_vars_per_channel
        if top.shape.rank
        else tf.quantization.fake_quant_with_min_max_vars
    )
    values = round_to(values, -top, top, 8, narrow_range=True)
    return with_gradient_of(kernel, values) if training else values


def with_gradient_of(source: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns `values` with the gradient of `source`.

    TensorFlow's own gradient of rounding is not deterministic on a GPU.
    """
    return source + tf.stop_gradient(values - source)

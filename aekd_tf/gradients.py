"""Computes per-teacher gradients of the distillation loss and their Gram matrix (Eq. 13-15)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from aekd_tf.checks import check_choice
from aekd_tf.names import BATCH_GRADIENTS
from aekd_tf.training.replicas import summed


def teacher_gradients(
    loss_per_example: Callable[[tf.Tensor], tf.Tensor],
    student_output: tf.Tensor,
    num_teachers: int,
    example_weight: tf.Tensor,
    outer: tf.GradientTape | None = None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Computes every teacher's loss and its gradient w.r.t. the student's output.

    One backward pass serves all teachers: the student's output is repeated once per teacher.
    The gradients stop there: no backward pass through the student.

    Args:
        loss_per_example: maps `[M, B, ...]` student outputs to losses `[M, B]`.
        student_output: `[B, ...]`, e.g. logits.
        num_teachers: M.
        example_weight: `[B]`, each example's share in the batch loss (1/B without
            sample weights).
        outer: a tape that records the losses, and pauses while their gradients are computed.

    Returns:
        `(losses [M, B], gradients [M, B, ...])`, float32: each teacher's loss per example, and
        the gradient of its batch loss `sum_b v_b l_mb`, with v_b the example weight. The
        gradients are None if the losses do not depend on the student's output.
    """
    repeats = [num_teachers] + [1] * student_output.shape.rank
    student = tf.tile(tf.cast(student_output, tf.float32)[None], repeats)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(student)
        losses = loss_per_example(student)
        totals = tf.reduce_sum(example_weight * losses, -1)
    with outer.stop_recording() if outer is not None else contextlib.nullcontext():
        return losses, tape.gradient(totals, student)


def gram_matrix(gradients: tf.Tensor, batch_gradient: str) -> tf.Tensor:
    """Computes the inner products of the teachers' gradients, over all replicas' examples.

    Under a strategy, replicas exchange M gradients of one example's size with `"mean"`, and an
    `[M, M]` matrix with `"full"`.

    Args:
        gradients: `[M, B, ...]`, from `teacher_gradients`.
        batch_gradient: `"mean"` averages each teacher's gradient over the batch first, as
            the authors' code does; `"full"` takes the whole `[B, K]` tensor, as in Eq. 15.

    Returns:
        `[M, M]` float32, symmetric positive semi-definite.
    """
    check_choice("batch_gradient", batch_gradient, BATCH_GRADIENTS)
    if batch_gradient == "mean":
        examples = tf.cast(tf.shape(gradients)[1], tf.float32)
        total, examples = summed((tf.reduce_sum(gradients, 1), examples))
        return _inner_products(total / examples)
    return summed(_inner_products(gradients))


def example_grams(gradients: tf.Tensor) -> tf.Tensor:
    """Computes the inner products of the teachers' gradients for each example alone.

    Args:
        gradients: `[M, B, ...]`.

    Returns:
        `[B, M, M]` float32.
    """
    axes = list(range(2, gradients.shape.rank))
    rows = [tf.reduce_sum(gradients * row, axes) for row in tf.unstack(gradients)]
    return tf.transpose(tf.stack(rows), [2, 0, 1])


def parameter_gram(
    tape: tf.GradientTape, losses: tf.Tensor, parameters: Sequence[Any]
) -> tf.Tensor:
    """Computes the Gram matrix of the gradients w.r.t. the student's parameters (Eq. 10).

    Args:
        tape: persistent, and still recording.
        losses: `[M]`, recorded by it, of the batch.
        parameters: trainable variables of the student.

    Returns:
        `[M, M]` float32.
    """
    each = tf.unstack(losses)  # recorded
    with tape.stop_recording():
        rows = []
        for loss in each:
            gradients = tape.gradient(loss, parameters, unconnected_gradients="zero")
            flat = [tf.reshape(tf.cast(gradient, tf.float32), [-1]) for gradient in gradients]
            rows.append(tf.concat(flat, 0))
        return gram_matrix(summed(tf.stack(rows))[:, None], "full")


def _inner_products(gradients: tf.Tensor) -> tf.Tensor:
    size = gradients.shape[0]
    # A replica may have no examples, and `reshape` cannot infer a -1 from an empty tensor.
    entries = gradients.shape.num_elements() or tf.size(gradients)
    rows = tf.reshape(gradients, [size, entries // size])
    # Not a matrix product: matrix units round to TF32 or bfloat16, and teachers that nearly
    # agree differ by less than that.
    return tf.stack([tf.reduce_sum(rows * row, -1) for row in tf.unstack(rows)])


def gradient_conflict(gram: tf.Tensor) -> tf.Tensor:
    """Computes the share of teacher pairs whose gradients have a negative cosine, 0 to 1."""
    size = gram.shape[-1]
    if size < 2:
        return tf.zeros([], gram.dtype)
    negative = tf.reduce_sum(tf.cast(gram < 0, gram.dtype))
    return negative / (size * (size - 1))


def example_shares(outputs: tf.Tensor, sample_weight: Any, count: tf.Tensor) -> tf.Tensor:
    """Returns each example's share of the batch loss, `[B]`: its weight divided by `count`.

    Keras's reduction "sum over batch size" gives the same shares.

    Args:
        outputs: `[B, ..., K]`; they may be only a part of the global batch.
        sample_weight: `[B]` or `[B, 1]`; None or one weight per position, which is a mask,
            counts all examples the same.
        count: size of the global batch.
    """
    if sample_weight is None or per_position(sample_weight, outputs):
        return tf.fill([tf.shape(outputs)[0]], 1 / count)
    return tf.reshape(tf.cast(sample_weight, tf.float32), [-1]) / count


def per_position(sample_weight: Any, outputs: tf.Tensor) -> bool:
    """Returns whether sample weights are one per position of dense `outputs [B, ..., K]`."""
    shape = sample_weight.shape
    return outputs.shape.rank > 2 and shape.rank > 1 and shape[1:].num_elements() != 1

"""The reference that a program's teachers are compared with: the student, the truth, or between."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aekd_tf.losses.dkd import one_hot
from aekd_tf.outputs import UNKNOWN
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals
from aekd_tf.teachers.votes import vote


def residuals(
    signals: Signals, anchor: Any, temperature: float, anchor_to: str, name: str
) -> tf.Tensor:
    """Returns `r_m = (1 - a) f(s) + a y - f(z_m)`, with a the anchor.

    f is the softmax at `temperature` for classes, the sigmoid for independent labels and one
    logit, and the identity for regression. The student's softmax is over the classes that the
    teacher knows. Positions of dense outputs count by their share in the example.

    Args:
        signals: with `teacher_outputs`, and the `labels` or `student_outputs` that are used.
        anchor: a, from 0 to 1, a number or a scalar tensor.
        temperature: T of the softmax.
        anchor_to: `"labels"` or `"vote"`, which y is.
        name: what messages call the weighting.

    Returns:
        `[M, B, ..., K]` float32; zero for a teacher that is not live.

    Raises:
        ValueError: labels that are missing, or that do not fit the outputs.
    """
    outputs, head = signals.teacher_outputs, signals.head
    truth = truth_of(signals, anchor_to, name)
    reference = anchor * truth[None]
    if not isinstance(anchor, float) or anchor < 1:
        student = tf.cast(signals.student_outputs, tf.float32)
        student = tf.where(outputs > UNKNOWN / 2, student, outputs)
        reference += (1 - anchor) * softened(student, head, temperature)
    found = reference - softened(outputs, head, temperature)
    shares = signals.position_weight
    if shares is not None:
        found *= shares[..., None]
    live = tf.reshape(signals.live, [-1] + [1] * (found.shape.rank - 1))
    return tf.where(live, found, 0.0)


def truth_of(signals: Signals, anchor_to: str, name: str) -> tf.Tensor:
    """Returns what stands for the truth, `[B, ..., K]` float32.

    Raises:
        ValueError: labels that are missing, or that do not fit the outputs.
    """
    if anchor_to == "vote":
        return vote(signals.teacher_outputs, signals.head, signals.live)
    if signals.labels is None:
        raise refusal("anchor_without_labels", name=name)
    return as_reference(signals.labels, signals.teacher_outputs.shape[1:], signals.head)


def as_reference(labels: Any, outputs: tf.TensorShape, head: str) -> tf.Tensor:
    """Returns labels in the shape of `outputs [B, ..., K]`: one-hot, 0 and 1, or values.

    Raises:
        ValueError: labels that do not fit.
    """
    if head == "classes":
        return one_hot(labels, outputs)
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == outputs.rank - 1 and outputs[-1] == 1:
        labels = labels[..., None]
    if not labels.shape.is_compatible_with(outputs):
        raise refusal("targets_shape", shape=str(tuple(labels.shape)), outputs=str(tuple(outputs)))
    return tf.cast(labels, tf.float32)


def softened(outputs: tf.Tensor, head: str, temperature: float) -> tf.Tensor:
    """Returns the outputs as probabilities; those of regression as they are."""
    if head == "classes":
        return tf.nn.softmax(outputs / temperature)
    return tf.sigmoid(outputs) if head == "labels" else outputs

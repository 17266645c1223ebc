"""What teachers' outputs say of classes, and softmaxes over the teachers that are live."""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.losses.dkd import one_hot
from aekd_tf.names import HEAD_TITLES
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals

# Finite stand-in for a logarithm of zero, so that 0 * log 0 is 0; the sum over a batch is finite.
_LEAST_LOG = -1e30


def cross_entropies(signals: Signals, name: str) -> tf.Tensor:
    """Returns each teacher's cross-entropy with the labels at T = 1, `[M, B]` float32.

    Args:
        signals: with `teacher_outputs` and `labels`. Classes take integers or one-hot rows, and
            independent labels take 0 or 1 each, of which the mean is taken.
        name: the weighting's, for messages.

    Raises:
        ValueError: no labels, or outputs that are neither classes nor labels.
    """
    check_head(signals, name, ("classes", "labels"))
    if signals.labels is None:
        raise refusal("weighting_needs_labels", name=name)
    outputs = signals.teacher_outputs
    if signals.head == "labels":
        labels = tf.cast(tf.convert_to_tensor(signals.labels), tf.float32)
        labels = tf.broadcast_to(tf.reshape(labels, tf.shape(outputs)[1:]), tf.shape(outputs))
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs)
        return signals.position_mean(tf.reduce_mean(each, -1))
    logs = log_softmax(outputs)
    return signals.position_mean(
        -tf.reduce_sum(one_hot(signals.labels, outputs.shape[1:]) * logs, -1)
    )


def entropies(signals: Signals, name: str) -> tf.Tensor:
    """Returns the entropy of each teacher's softmax at T = 1, `[M, B]` float32, at least 0."""
    check_head(signals, name, ("classes",))
    logs = log_softmax(signals.teacher_outputs)
    return signals.position_mean(-tf.reduce_sum(tf.exp(logs) * logs, -1))


def log_softmax(outputs: tf.Tensor) -> tf.Tensor:
    """Returns the logarithms of the softmax, all of them finite."""
    return tf.maximum(tf.nn.log_softmax(outputs), _LEAST_LOG)


def check_head(signals: Signals, name: str, heads: tuple[str, ...]) -> None:
    """Raises ValueError unless the outputs are one of `heads`."""
    if signals.head not in heads:
        titles = " or ".join(HEAD_TITLES[head] for head in heads)
        raise refusal("weighting_head", name=name, heads=titles, head=HEAD_TITLES[signals.head])


def softmax_among(values: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
    """Returns the softmax of `values [M]` or `[M, B]` over the live teachers, zero for others."""
    mask = live if values.shape.rank == 1 else live[:, None]
    return tf.where(mask, tf.nn.softmax(tf.where(mask, values, values.dtype.min), 0), 0.0)


def all_but(shares: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
    """Returns `(1 - shares) / (M - 1)` over the M live teachers, `[M, B]`; 1 for the only one.

    `shares [M, B]` sum to 1 over the live teachers.
    """
    others = tf.reduce_sum(tf.cast(live, tf.float32)) - 1
    return tf.where(others > 0, tf.maximum(1 - shares, 0.0) / tf.maximum(others, 1.0), 1.0)

"""Sums over the replicas that step together."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def num_replicas() -> int:
    """Returns the number of replicas that step together, at least 1."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def summed(values: Any) -> Any:
    """Returns `values`, a tensor or a structure of tensors, summed over the replicas."""
    if num_replicas() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def largest(values: tf.Tensor) -> tf.Tensor:
    """Returns the largest of the replicas' values, entry by entry."""
    context = tf.distribute.get_replica_context()
    if num_replicas() == 1 or context is None:
        return values
    # A strategy reduces by sums alone.
    chosen = tf.range(num_replicas()) == context.replica_id_in_sync_group
    chosen = tf.reshape(chosen, [-1, *[1] * values.shape.rank])
    return tf.reduce_max(summed(tf.where(chosen, values, 0.0)), 0)


def batch_size(inputs: Any) -> tf.Tensor:
    """Returns the number of examples in this replica's part of the batch, 0 or more."""
    return tf.shape(next(x for x in keras.tree.flatten(inputs) if x is not None))[0]

"""Signals: what a training step knows of the teachers, for weightings to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from aekd_tf.losses.base import mean_over_positions
from aekd_tf.training.replicas import summed


@dataclasses.dataclass(frozen=True)
class Signals:
    """What a step knows of M teachers on a batch of B examples; all gradients are stopped.

    Fields that a weighting does not list in its `needs` are None, except `live`, `head` and
    `state`. On several replicas, fields with an axis B hold this replica's part of the batch.

    Attributes:
        live: `[M]` bool; False for a teacher whose outputs are not finite on this batch. The
            other fields then hold zeros in its place.
        gram: `[M, M]` float32: inner products of the gradients of the teachers' losses.
        losses: `[M, B]` float32: each teacher's loss per example, without sample weights.
        teacher_outputs: `[M, B, ..., K]` float32, as the models give them.
        student_outputs: `[B, ..., K]` float32.
        labels: as the batch brings them, but `[B]` where they are `[B, 1]` integers; None
            without labels.
        sample_weight: `[B]` or `[B, ...]`; None without.
        temperature: T of the softened outputs.
        step: number of optimizer steps so far.
        head: what the outputs are: `"classes"`, `"labels"` or `"regression"`.
        state: what the weighting keeps from step to step, as its `initial_state` lays it out.
    """

    live: Any
    gram: Any = None
    losses: Any = None
    teacher_outputs: Any = None
    student_outputs: Any = None
    labels: Any = None
    sample_weight: Any = None
    temperature: Any = None
    step: Any = None
    head: Any = "classes"
    state: Any = None
    # [B]: the weight of each example in `batch_mean`; None for equal ones.
    _mean_weight: Any = dataclasses.field(default=None, repr=False)
    # [B, ...]: zero at the positions of dense outputs that do not count; None if all count.
    _mask: Any = dataclasses.field(default=None, repr=False)

    def only(self, needs: Sequence[str]) -> Signals:
        """Returns these signals without the fields that are not needed."""
        kept = {*_ALWAYS, *needs}
        names = [field.name for field in dataclasses.fields(self)]
        return dataclasses.replace(self, **{name: None for name in names if name not in kept})

    @property
    def batch_size(self) -> int | None:
        """Number of examples on this replica; None if the graph does not know it."""
        fields = [(self.losses, 1), (self.teacher_outputs, 1), (self.student_outputs, 0)]
        fields += [(self.labels, 0), (self._mean_weight, 0)]
        sizes = [field.shape[axis] for field, axis in fields if hasattr(field, "shape")]
        return next((size for size in sizes if size is not None), None)

    def batch_mean(self, values: Any) -> tf.Tensor:
        """Returns the mean over all replicas' examples, by sample weight.

        Args:
            values: `[..., B]`.

        Returns:
            `[...]` float32, the same on all replicas; zero if all sample weights are zero.
        """
        values = tf.cast(values, tf.float32)
        weight = self._mean_weight
        if weight is None and self.sample_weight is not None:
            weight = tf.cast(self.sample_weight, tf.float32)
            weight = weight if weight.shape.rank == 1 else None  # a mask of positions
        if weight is None:
            weight = tf.ones_like(values[(0,) * (values.shape.rank - 1)])
        total, count = summed((tf.reduce_sum(weight * values, -1), tf.reduce_sum(weight)))
        return tf.math.divide_no_nan(total, count)

    def position_mean(self, values: Any) -> tf.Tensor:
        """Returns `[M, B]`: the mean of `values [M, B, ...]` over each example's own positions.

        Positions that are masked, or whose sample weight is zero, do not count.
        """
        mask = self._mask
        if mask is None and self.sample_weight is not None:
            mask = (
                self.sample_weight
                if tf.convert_to_tensor(self.sample_weight).shape.rank > 1
                else None
            )
        return mean_over_positions(values, mask)


_ALWAYS = ("live", "head", "state", "_mean_weight", "_mask")
FIELDS = tuple(
    field.name for field in dataclasses.fields(Signals) if not field.name.startswith("_")
)

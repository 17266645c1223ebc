"""Signals: what a training step knows of the teachers, for weightings to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aekd_tf.losses.base import mean_over_positions
from aekd_tf.monitoring.reprs import repr_of, shape_of
from aekd_tf.training.replicas import summed


@dataclasses.dataclass(frozen=True, repr=False)
class Signals:
    """Contains what a step knows of M teachers on a batch of B examples, for weightings to read.

    All gradients are stopped.
    Fields that a weighting does not list in its `needs` are None, except `live`, `head` and
    `state`. NumPy arrays become tensors, floats in float32. On several replicas, fields with an
    axis B hold this replica's part of the batch.

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
        head: what the outputs are: `"classes"`, `"labels"` or `"regression"`. Unless it is given,
            classes if there are several, else a label.
        state: what the weighting keeps from step to step, as its `initial_state` lays it out.

    Example::

        import numpy as np
        from aekd_tf import Signals

        losses = np.array([[1.0, 3.0], [2.0, 2.0]])  # 2 teachers, 2 examples
        signals = Signals(live=np.ones(2, bool), losses=losses, sample_weight=np.array([3.0, 1.0]))
        print(signals.batch_mean(signals.losses).numpy())  # [1.5 2. ]
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
    head: Any = None
    state: Any = None
    # [B]: the weight of each example in `batch_mean`; None for equal ones.
    _mean_weight: Any = dataclasses.field(default=None, repr=False)
    # [B, ...]: zero at the positions of dense outputs that do not count; None if all do.
    _mask: Any = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):  # the state
                value = {name: _as_tensor(each) for name, each in value.items()}
            object.__setattr__(self, field.name, _as_tensor(value))
        if self.head is None:
            outputs = self.student_outputs if self.teacher_outputs is None else self.teacher_outputs
            several = outputs is None or outputs.shape[-1] != 1
            object.__setattr__(self, "head", "classes" if several else "labels")

    def _shown(self) -> dict[str, Any]:
        return {name: shape_of(getattr(self, name)) for name in FIELDS}

    __repr__ = repr_of

    def only(self, needs: Sequence[str]) -> Signals:
        """Returns these signals without the fields that are not needed."""
        unwanted = {name for name in FIELDS if name not in ("live", "head", "state", *needs)}
        return dataclasses.replace(self, **dict.fromkeys(unwanted))

    @property
    def example_weight(self) -> Any:
        """Returns each example's weight in the batch loss, `[B]`; None if all are equal."""
        weight = self._mean_weight
        if weight is None and self.sample_weight is not None:
            weight = tf.cast(self.sample_weight, tf.float32)
            weight = weight if weight.shape.rank == 1 else None  # a mask of positions
        return weight

    @property
    def mask(self) -> Any:
        """Returns what is zero at the positions that do not count, `[B, ...]`; None if all do."""
        mask = self._mask
        if mask is None and self.sample_weight is not None:
            mask = self.sample_weight if self.sample_weight.shape.rank > 1 else None
        return mask

    @property
    def position_weight(self) -> Any:
        """Returns the share of each position in its example, `[B, ...]`; None without a mask.

        An example's shares sum to 1, or to 0 if none of its positions counts.
        """
        mask = self.mask
        if mask is None:
            return None
        mask = tf.cast(tf.convert_to_tensor(mask) != 0, tf.float32)
        axes = list(range(1, mask.shape.rank))
        return tf.math.divide_no_nan(mask, tf.reduce_sum(mask, axes, keepdims=True))

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
        weight = self.example_weight
        if weight is None:
            weight = tf.ones_like(values[(0,) * (values.shape.rank - 1)])
        total, count = summed((tf.reduce_sum(weight * values, -1), tf.reduce_sum(weight)))
        return tf.math.divide_no_nan(total, count)

    def position_mean(self, values: Any) -> tf.Tensor:
        """Returns `[M, B]`: the mean of `values [M, B, ...]` over each example's own positions.

        Positions that are masked, or whose sample weight is zero, do not count.
        """
        return mean_over_positions(values, self.mask)


def _as_tensor(value: Any) -> Any:
    """Returns an array as a tensor, floats in float32; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return tf.convert_to_tensor(value, tf.float32 if value.dtype.kind == "f" else None)


FIELDS = tuple(
    field.name for field in dataclasses.fields(Signals) if not field.name.startswith("_")
)

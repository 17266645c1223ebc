"""Terms: the distillation losses of a step, each with its weighting and its reports."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.gradients import example_grams, gram_matrix
from aekd_tf.monitoring.metrics import TeacherWeights
from aekd_tf.signals import Signals
from aekd_tf.training.replicas import summed
from aekd_tf.weightings.base import Weighting, among_live


@dataclasses.dataclass(frozen=True)
class StepBatch:
    """What a step knows of this replica's part of a batch.

    Attributes:
        signals: what weightings may read of the outputs; without losses and Gram matrix.
        mask: `[B, ...]`, zero at the positions of dense outputs that do not count, or None.
        example_weight: `[B]`, each example's share in the batch loss.
        count: size of the global batch, float32.
        tape: records the step; None in validation.
    """

    signals: Signals
    mask: Any
    example_weight: tf.Tensor
    count: tf.Tensor
    tape: tf.GradientTape | None

    @property
    def training(self) -> bool:
        """Whether this is a training step."""
        return self.tape is not None

    def gradient_weight(self, weighting: Weighting | None) -> tf.Tensor:
        """Returns the weights `[B]` by which a weighting's gradients are taken."""
        alone = weighting is not None and weighting.example_gram
        return tf.ones_like(self.example_weight) if alone else self.example_weight

    def grams(
        self, gradients: tf.Tensor, weighting: Weighting | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the Gram matrix `[M, M]` of the batch, and that of each example or None.

        `gradients [M, B, ...]` are by `gradient_weight`.
        """
        if weighting is None or not weighting.example_gram:
            reduction = "mean" if weighting is None else weighting.batch_gradient
            return gram_matrix(gradients, reduction), None
        each = example_grams(gradients)
        weight = tf.square(self.example_weight)[:, None, None]
        return summed(tf.reduce_sum(weight * each, 0)), each

    def total(self, losses: tf.Tensor) -> tf.Tensor:
        """Returns the batch loss `[...]` of `losses [..., B]`, this replica's part."""
        return tf.reduce_sum(self.example_weight * losses, -1)


class Term:
    """One distillation loss: how it is weighted, and what is reported of it.

    Attributes:
        num_teachers: M.
        factor: name of the setting that the loss is multiplied by.
        weighting: finds the teachers' weights; None takes the weights of the outputs' term.
        loss_tracker, weights_tracker: the metrics that report it.
        state: variables of what the weighting keeps from step to step, this term's own.
        checking: whether the values of the weights are looked at, outside a graph.
    """

    factor: str
    checking: bool = False

    def __init__(self, weighting: Weighting | None, num_teachers: int, prefix: str, name: str):
        self.weighting, self.num_teachers = weighting, num_teachers
        self.loss_tracker = keras.metrics.Mean(name=f"{name}_loss")
        self.weights_tracker = TeacherWeights(num_teachers, prefix)
        self.prefix = prefix
        self.state: dict[str, keras.Variable] = {}

    def make_state(self, model: keras.Model) -> None:
        """Makes the variables of `state`, which `model` then saves and restores."""
        weighting = self.weighting
        start = {} if weighting is None else weighting.initial_state(self.num_teachers)
        for name, value in start.items():
            self.state[name] = model.add_weight(
                shape=value.shape,
                initializer=lambda shape, dtype, value=value: tf.constant(value, dtype),
                dtype=str(value.dtype),
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",  # all have the same
                name=f"{self.prefix}weighting_{name}",
            )

    def weights(
        self,
        batch: StepBatch,
        live: tf.Tensor,
        losses: tf.Tensor,
        gram: tf.Tensor,
        example_gram: tf.Tensor | None = None,
        of_outputs: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the teachers' weights, `[M]` or `[M, B]`, and reports them in training.

        Args:
            batch: what the step knows.
            live: `[M]` bool.
            losses: `[M, B]`.
            gram: `[M, M]`, of the global batch.
            example_gram: `[B, M, M]` for a weighting with one program per example, else None.
            of_outputs: the weights of the outputs' term.
        """
        if self.weighting is None:
            assert of_outputs is not None
            weights, gap = among_live(of_outputs, live), tf.zeros([])
        else:
            signals = dataclasses.replace(
                batch.signals,
                live=live,
                losses=tf.stop_gradient(losses),
                gram=gram if example_gram is None else example_gram,
                state={name: tf.convert_to_tensor(kept) for name, kept in self.state.items()},
            )
            signals = signals.only(self.weighting.needs)
            if self.checking:
                self.weighting.check_values(signals)
            weights, diagnostics = self.weighting(signals)
            gap = diagnostics["qp_gap"]
            if batch.training:
                for name, kept in self.state.items():
                    kept.assign(diagnostics["state"][name])
        if batch.training:
            self.weights_tracker.update_state(weights, gap, gram, live, batch.signals)
        return weights


@dataclasses.dataclass(frozen=True)
class Terms:
    """The terms of a distiller: one on outputs, and one per hint."""

    outputs: Any
    features: tuple[Any, ...]

"""Makes a training step on several replicas equal the step of one device on the global batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import keras
import tensorflow as tf

from aekd_tf.keras_private import (
    BuiltFromOneReplica,
    assert_compiled,
    clip_gradients,
    compiled_loss,
    compiled_metrics,
    in_cluster,
    loss_tracker,
    without_all_reduce,
)
from aekd_tf.training.replicas import batch_size, num_replicas, summed

Method = TypeVar("Method", bound=Callable[..., Any])


def signed_as(method: Callable[..., Any]) -> Callable[[Method], Method]:
    """Shows a method with the signature of Keras's own; type checkers see it as it is."""
    return cast("Callable[[Method], Method]", functools.wraps(method, assigned=()))


class GlobalBatch(BuiltFromOneReplica):
    """A model whose training step under a strategy equals that of one device.

    Keras averages the losses of each replica separately, which gives another loss if the
    replicas' parts of a batch differ in size. It also clips gradients before they are summed.
    Here every replica's loss is its share of the global mean, and clipping acts on the global
    gradients.

    Batch norm sees the global batch if it is made with `synchronized=True`. Otherwise it sees
    one replica's part, as in Keras, and no replica may be without examples.
    """

    _evaluating = False

    def _compiled_share(self, y: Any, y_pred: Any, sample_weight: Any, share: Any) -> tf.Tensor:
        """Returns this replica's part of the compiled loss; the parts sum to the global loss.

        `share` is the replica's share of the examples, from 0 to 1.
        """
        loss = None if y is None else compiled_loss(self, y, y_pred, sample_weight)
        return tf.zeros([]) if loss is None else self._as_share(loss, share)

    def _student_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any, share: Any
    ) -> tf.Tensor:
        """Returns this replica's part of the loss without regularization."""
        return self._compiled_share(y, y_pred, sample_weight, share)

    def _as_share(self, loss: Any, share: Any) -> tf.Tensor:
        """Returns a loss of Keras as this replica's part of the global loss."""
        loss = tf.cast(loss, tf.float32)
        if num_replicas() == 1 or self._reductions() == {"sum"}:
            return loss
        # Keras gives the mean over the replica's examples divided by the number of replicas.
        return loss * num_replicas() * share

    def _reductions(self) -> set[Any]:
        """Returns the reductions of the compiled losses; Keras averages a plain function."""
        losses = keras.tree.flatten(self.loss)
        return {getattr(loss, "reduction", "mean") for loss in losses if loss is not None}

    def _regularization_share(self) -> tf.Tensor:
        """Returns this replica's part of the layers' own losses."""
        losses = [tf.cast(loss, tf.float32) for loss in self.losses]
        return tf.add_n([tf.zeros([]), *losses]) / num_replicas()

    def _apply_summed(self, gradients: Sequence[Any]) -> None:
        """Takes an optimizer step by the sum of the replicas' gradients, clipped after summing."""
        variables = self.trainable_variables
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        clips = optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue
        # Keras would clip, and check for overflows, before it sums over the replicas.
        if num_replicas() > 1 and (clips or optimizer is not self.optimizer):
            pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
            variables = [variable for _, variable in pairs]
            gradients = summed([tf.convert_to_tensor(gradient) for gradient, _ in pairs])
            scale = tf.constant(float(optimizer.loss_scale_factor or 1.0))
            if optimizer is not self.optimizer:
                built = self.optimizer.built
                scale = self.optimizer.dynamic_scale if built else self.optimizer.initial_scale
                scale = tf.convert_to_tensor(scale, tf.float32)
            gradients = [gradient / scale for gradient in gradients]
            clipped = clip_gradients(optimizer, gradients)
            if optimizer is not self.optimizer:  # an overflow must still show after clipping
                both = zip(clipped, gradients, strict=True)
                clipped = [tf.where(tf.math.is_finite(g), c, g) for c, g in both]
            # The optimizer sums again, hence the division; its own clipping then does nothing.
            gradients = [gradient * (scale / num_replicas()) for gradient in clipped]
        # As Keras does, for optimizers that override it.
        with without_all_reduce():
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def _track_mean(self, tracker: keras.metrics.Mean, part: Any, count: tf.Tensor) -> None:
        """Adds a step's global value to a mean over examples.

        Args:
            tracker: the mean.
            part: this replica's part of the value; the parts sum to it.
            count: number of examples of the global batch.
        """
        replicas = num_replicas()
        weight = tf.cast(count, tf.float32) / replicas
        tracker.update_state(part * replicas, sample_weight=weight)

    def _check_scope(self) -> None:
        """Checks that everything was made in the same strategy's scope as this model.

        Raises:
            ValueError: a part was not; the message names it and says how to make it.
        """
        strategy = self.distribute_strategy.extended
        kinds = {
            "student": self.variables,
            "optimizer": self.optimizer.variables if self.optimizer else [],
            "metrics": self.metrics_variables,
            **self._other_variables(),
        }
        for kind, variables in kinds.items():
            for variable in variables:
                if not strategy.variable_created_in_scope(variable.value):
                    raise ValueError(
                        f"the {kind} was made in another strategy's scope than the "
                        f"{type(self).__name__} ({variable.path}): make students, teachers, "
                        "distiller and optimizer, and compile, inside one "
                        "`with strategy.scope():`"
                    )

    def _other_variables(self) -> dict[str, list[Any]]:
        """Returns the variables of other models that a step uses, by name, for `_check_scope`."""
        return {}

    @signed_as(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`, but first refuses what several replicas cannot do."""
        assert_compiled(self, "fit")
        self._check_scope()
        if self.distribute_strategy.num_replicas_in_sync > 1:
            self._check_supported()
        return super().fit(*args, **kwargs)

    def _check_supported(self) -> None:
        replicas = self.distribute_strategy.num_replicas_in_sync
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        refused = {
            "jit_compile=True cannot compile a step of several replicas: use jit_compile=False": (
                self.jit_compile is True and not self._on_tpu
            ),
            "steps_per_execution above 1 is not supported under a strategy: use a larger batch": (
                self.steps_per_execution > 1 and not self._on_tpu
            ),
            "gradient_accumulation_steps is not supported under a strategy: more replicas or a "
            "larger batch do the same": bool(optimizer and optimizer.gradient_accumulation_steps),
            "ema_overwrite_frequency is not supported under a strategy: use use_ema alone": bool(
                optimizer and optimizer.use_ema and optimizer.ema_overwrite_frequency
            ),
            "losses whose reduction is none or mean_with_sample_weight, or not the same for all, "
            "have no global mean: use 'sum_over_batch_size'": (
                self._reductions() != {"sum"}
                and not self._reductions() <= {"mean", "sum_over_batch_size"}
            ),
        }
        for reason, asked in refused.items():
            if asked:
                raise ValueError(f"{replicas} replicas: {reason}")

    @property
    def _on_tpu(self) -> bool:
        return isinstance(self.distribute_strategy, tf.distribute.TPUStrategy)

    def _reduced_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns a step's logs; those of a cluster get an axis, along which Keras averages."""
        if not in_cluster(self.distribute_strategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def _unused_in_evaluation(self) -> set[str]:
        """Returns the names of the metrics that only training updates."""
        return set()

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        y_pred = self(x, training=False)
        loss = self._student_loss(x, y, y_pred, sample_weight, examples / count)
        self._track_mean(loss_tracker(self), loss + self._regularization_share(), count)
        logs = self._reduced_logs(self.compute_metrics(x, y, y_pred, sample_weight))
        unused = self._unused_in_evaluation()
        return {name: value for name, value in logs.items() if name not in unused}

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as `keras.Model.evaluate`."""
        self._evaluating = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._evaluating = False

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Without labels the compiled metrics have nothing to compare.
        if y is None:
            return self.get_metrics_result()
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        # Names that differ from a step's would make Keras report the mean over the replicas.
        unused = self._unused_in_evaluation() if self._evaluating else ()
        results: dict[str, Any] = {}
        for metric in self.metrics:
            if metric is compiled_metrics(self) and not metric.built:
                continue  # no labels so far
            value = metric.result()
            results.update(value if isinstance(value, dict) else {metric.name: value})
        return {name: value for name, value in results.items() if name not in unused}


class SupervisedModel(GlobalBatch):
    """A classifier that learns from labels alone, by the same step as a distiller.

    Args:
        network: Keras model from inputs to logits.
    """

    def __init__(self, network: keras.Model):
        super().__init__(dtype=network.dtype_policy, name=network.name)
        self.autocast = False
        self.network = network

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.network(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._compiled_share(y, y_pred, sample_weight, examples / count)
            loss += self._regularization_share()
            scaled_loss = self.optimizer.scale_loss(loss)
        self._apply_summed(tape.gradient(scaled_loss, self.trainable_variables))
        self._track_mean(loss_tracker(self), loss, count)
        return self._reduced_logs(self.compute_metrics(x, y, y_pred, sample_weight))

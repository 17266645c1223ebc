"""Trains many small networks per minute: many steps per call, and one trace for all seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import data
from aekd_tf.experiments.compare.recipes import Recipe
from aekd_tf.training.fit import execution, start_reproducibly
from aekd_tf.training.optimizer import SGDWithL2

_TEST_BATCH = 1000


class Trainer:
    """Trains one model several times, from the weights of other seeds.

    Args:
        make: returns a new model, and the network in it that is trained.
        recipe: weight decay, and whether XLA compiles the step.
        steps: steps per epoch.
        epochs: number of epochs.
        learning_rate: rate at the start.
        steps_per_execution: steps per call, which divide an epoch; None for many.
    """

    def __init__(
        self,
        make: Callable[[], tuple[keras.Model, keras.Model]],
        recipe: Recipe,
        steps: int,
        epochs: int,
        learning_rate: float,
        steps_per_execution: int | None = None,
    ):
        self._make, self.steps, self.epochs = make, steps, epochs
        self._schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
        self._l2, self._jit_compile = recipe.l2, recipe.jit_compile
        self._execution = steps_per_execution or execution(steps)
        self._model: keras.Model | None = None

    def train(
        self, seed: int, batches: Any, *, per_epoch: bool = False
    ) -> tuple[keras.Model, dict[str, list[float]]]:
        """Trains from new weights on all epochs of `batches`.

        Args:
            seed: of the weights and of whatever else is random.
            batches: all batches of the training, in order.
            per_epoch: whether each epoch has figures of its own, which takes a third of the time
                of a tiny network; else there is one figure, the mean over the training.

        Returns:
            The trained network, which the next call trains anew, and lists of figures by name.
        """
        start_reproducibly(seed, self._jit_compile, self._model is not None)
        model, network = self._make()
        if self._model is None:
            self._model, self._network = model, network
            model.compile(
                SGDWithL2(self._schedule, momentum=0.9, nesterov=True, l2=self._l2),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=self._jit_compile,
                steps_per_execution=self._execution,
            )
            model.optimizer.build(model.trainable_variables)
        else:
            for variable, new in zip(self._model.variables, model.variables, strict=True):
                variable.assign(new)
            for variable in self._model.optimizer.variables:
                variable.assign(keras.ops.zeros_like(variable))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`shuffle=True` was passed")
            parts = self.epochs if per_epoch else 1
            steps = self.steps * self.epochs // parts
            history = self._model.fit(batches, epochs=parts, steps_per_epoch=steps, verbose=0)
        return self._network, history.history


class Accuracy:
    """Computes the test accuracy of networks of one architecture, with one trace."""

    def __init__(self, dataset: data.Dataset):
        self._batches = data.evaluation_pipeline(dataset, dataset.test, _TEST_BATCH)
        self._examples = len(dataset.test)
        self._functions: dict[int, Any] = {}

    def __call__(self, network: keras.Model) -> float:
        """Returns the share of the test examples that the network classifies rightly."""
        if id(network) not in self._functions:
            self._functions = {id(network): tf.function(_hits(network), autograph=False)}
        hits = self._functions[id(network)]
        return float(np.sum([hits(x, y) for x, y in self._batches]) / self._examples)


def _hits(network: keras.Model) -> Callable[[Any, Any], Any]:
    def hits(inputs: Any, labels: Any) -> Any:
        predicted = tf.argmax(network(inputs, training=False), -1)
        return tf.reduce_sum(tf.cast(predicted == labels, tf.int32))

    return hits

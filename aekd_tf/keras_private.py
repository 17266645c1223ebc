"""Every private attribute of Keras and TensorFlow that this package touches, one function each.

`tests/test_keras_private.py` names the one that a new version has changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.refusals import refusal

if keras.backend.backend() != "tensorflow":  # by Keras's own configuration file
    raise refusal("backend", backend=keras.backend.backend())

# What `fit` tells `evaluate` when it validates.
VALIDATION = "_use_cached_eval_dataset"


def flatten_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns all layers of a model, those of nested models included."""
    return list(model._flatten_layers())


def compiled_loss(model: keras.Model, y: Any, y_pred: Any, sample_weight: Any) -> Any:
    """Returns the value of the compiled loss; None when the model has none."""
    if model._compile_loss is None:
        return None
    return model._compile_loss(y, y_pred, sample_weight)


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that Keras reports as `loss`."""
    return model._loss_tracker


def assert_compiled(model: keras.Model, method: str) -> None:
    """Raises Keras's own ValueError unless the model is compiled."""
    model._assert_compile_called(method)


def keras_mask(tensor: Any) -> Any:
    """Returns the mask that Keras keeps beside a layer's output; None without."""
    return getattr(tensor, "_keras_mask", None)


def clip_gradients(optimizer: keras.optimizers.Optimizer, gradients: Sequence[Any]) -> list[Any]:
    """Returns the gradients as the optimizer clips them."""
    return optimizer._clip_gradients(gradients)


def inbound_nodes(layer: Any) -> list[Any]:
    """Returns the calls of a layer in functional models; AttributeError when Keras hides them."""
    return layer._inbound_nodes


def outbound_nodes(layer: Any) -> list[Any]:
    """Returns the calls that take a layer's outputs in functional models."""
    return layer._outbound_nodes


def made_by(tensor: Any) -> tuple[Any, list[Any]]:
    """Returns the operation that gave a tensor of a functional model, and that call's inputs."""
    node, _ = producer(tensor)
    return node.operation, list(node.input_tensors)


def producer(tensor: Any) -> tuple[Any, int]:
    """Returns the call that gave a tensor of a functional model, and which output it is."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index], history.tensor_index


def call_arguments(node: Any) -> tuple[Any, Any]:
    """Returns the arguments of a call in a functional model, in order and by name."""
    return node.arguments.args, node.arguments.kwargs


def structures(model: keras.Model) -> tuple[Any, Any]:
    """Returns the inputs and the outputs of a functional model, as they were given."""
    graph = getattr(model, "_functional", None) or model  # a Sequential keeps one
    return graph._inputs_struct, graph._outputs_struct


def output_index(tensor: Any) -> int:
    """Returns which of its operation's outputs a tensor of a functional model is."""
    return producer(tensor)[1]


def split_validation(arrays: Any, share: float) -> tuple[Any, Any]:
    """Returns `(x, y, sample_weight)` for training and for validation, as `fit` splits them."""
    from keras.src.trainers.data_adapters import array_slicing

    return array_slicing.train_validation_split(arrays, validation_split=share)


def compiled_metrics(model: keras.Model) -> Any:
    """Returns the metric that holds all compiled metrics; None without any."""
    return model._compile_metrics


def make_variables(model: keras.Model, batch: Any) -> None:
    """Makes the variables of compiled metrics and optimizer, which Keras leaves to the first step.

    A first step that makes variables is traced twice.
    """

    def symbolic(part: Any) -> Any:
        dtype = keras.backend.standardize_dtype(part.dtype)
        return keras.KerasTensor((None, *part.shape[1:]), dtype)

    x, y, _ = keras.tree.map_structure(lambda part: part if part is None else symbolic(part), batch)
    metrics = model._compile_metrics
    if metrics is not None and not metrics.built and y is not None:
        metrics.build(y, model.compute_output_spec(x, training=False))
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def in_xla() -> bool:
    """Returns whether the graph that is being traced will be compiled by XLA."""
    from tensorflow.python.ops import control_flow_util

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


class BuiltFromOneReplica(keras.Model):
    """A model that Keras builds from one replica's part of the first batch.

    Keras takes the mean of the replicas' batches for their shape, which fails when they differ.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if self.distribute_strategy.num_replicas_in_sync == 1 or iterator is None:
            return super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

        def first_replica(spec: Any) -> Any:
            spec = getattr(spec, "_value_specs", (spec,))[0]
            return keras.KerasTensor(tuple(spec.shape), spec.dtype.name)

        specs = iterator._distributed_dataset.element_spec
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=keras.tree.map_structure(first_replica, specs))
        return None


def in_cluster(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether workers in other processes train along."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and strategy.extended._in_multi_worker_mode()


def replace_call(layer: keras.layers.Layer, call: Callable[..., Any]) -> None:
    """Hides a layer's `call` by an attribute of the instance, past Keras's tracking."""
    object.__setattr__(layer, "call", call)


def restore_call(layer: keras.layers.Layer) -> None:
    """Undoes `replace_call`."""
    object.__delattr__(layer, "call")


def own_call(layer: keras.layers.Layer) -> Callable[..., Any]:
    """Returns a layer's `call` as its class defines it."""
    return type(layer).call.__get__(layer)


@contextlib.contextmanager
def replaced_calls(calls: dict[keras.layers.Layer, Callable[..., Any]]) -> Iterator[None]:
    """Replaces the `call` of several layers while the block lasts."""
    for layer, call in calls.items():
        replace_call(layer, call)
    try:
        yield
    finally:
        for layer in calls:
            restore_call(layer)


@contextlib.contextmanager
def without_all_reduce() -> Iterator[None]:
    """Lets an optimizer sum gradients over one replica by doing nothing.

    TensorFlow registers a gradient for each sum that it traces, and keeps it, and the whole graph
    of the step with it, until the process ends.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync > 1:
        yield
        return
    context.all_reduce = lambda reduce_op, value, options=None: value
    try:
        yield
    finally:
        del context.all_reduce


@contextlib.contextmanager
def without_optimizer(model: keras.Model) -> Iterator[None]:
    """Hides a model's optimizer, whose state Keras would store beside the weights."""
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        yield
    finally:
        model.optimizer = optimizer

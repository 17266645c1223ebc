"""What stays in a process of a model that was trained and dropped: nothing."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph

from aekd_tf import CachedTeachers, EnsembleDistiller
from aekd_tf.keras_private import without_all_reduce
from aekd_tf.training.global_batch import SupervisedModel
from tools.networks import classifier

X, Y = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32), np.arange(24) % 3
OUTPUTS = np.random.default_rng(1).normal(size=(24, 2, 3)).astype(np.float32)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(weighting):
    """Makes one step of a distiller, or of a student alone, and drops the model."""
    model, batch = SupervisedModel(classifier(0)), X
    if weighting:
        model = EnsembleDistiller(classifier(0), CachedTeachers(2), weighting=weighting)
        batch = {"inputs": X, "teacher_logits": OUTPUTS}
    model.compile("adam", LOSS, metrics=["accuracy"], jit_compile=False)
    model.train_on_batch(batch, Y)


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that were made since the start of the test and are still there."""
    made, initialize = weakref.WeakSet(), FuncGraph.__init__

    def remember(graph, *args, **kwargs):
        made.add(graph)
        initialize(graph, *args, **kwargs)

    monkeypatch.setattr(FuncGraph, "__init__", remember)
    return made


@pytest.mark.parametrize("weighting", [None, "aekd", "auto"])
def test_a_dropped_model_leaves_no_graph(weighting, graphs):
    train(weighting)  # once per process: the solver's graph
    gc.collect()
    graphs.clear()
    gradients = len(ops.gradient_registry.list())
    train(weighting)
    assert graphs
    gc.collect()
    assert not graphs
    assert len(ops.gradient_registry.list()) <= gradients


def test_the_sum_over_one_replica_is_back_afterwards():
    gradient = [tf.ones([3])]
    context = tf.distribute.get_replica_context()
    with without_all_reduce():
        assert context.all_reduce(tf.distribute.ReduceOp.SUM, gradient) is gradient
    assert "all_reduce" not in vars(context)
    np.testing.assert_array_equal(context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)[0], 1)

"""Names the private attribute of Keras or TensorFlow that a new version has changed."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from aekd_tf import keras_private
from aekd_tf.teachers import folding

PACKAGE = Path(keras_private.__file__).parent


def functional():
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Conv2D(2, 3, name="convolution")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    return keras.Model(inputs, keras.layers.Flatten()(hidden))


def has(owner, name):
    assert hasattr(owner, name), (
        f"{type(owner).__name__}.{name} is gone in Keras {keras.__version__}, TensorFlow "
        f"{tf.__version__}: change its function in aekd_tf/keras_private.py"
    )


def test_every_private_attribute_is_there():
    model = functional()
    for name in (
        *("_flatten_layers", "_assert_compile_called", "_maybe_symbolic_build"),
        *("_symbolic_build", "_compile_loss", "_loss_tracker"),
    ):
        if name.startswith("_compile") or name.startswith("_loss"):
            model.compile("sgd", "mse")
        has(model, name)
    has(model.get_layer("norm"), "_inbound_nodes")
    has(model.get_layer("norm"), "_outbound_nodes")
    has(model.get_layer("norm")._inbound_nodes[0], "operation")
    has(model.get_layer("norm")._inbound_nodes[0], "arguments")
    for name in ("_inputs_struct", "_outputs_struct"):
        has(model, name)
        has(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])._functional, name)
    has(control_flow_util, "GraphOrParentsInXlaContext")
    has(keras.optimizers.SGD(), "_clip_gradients")
    has(tf.distribute.get_strategy().extended, "_in_multi_worker_mode")
    layer = keras.layers.Dense(1)
    keras_private.replace_call(layer, lambda inputs: inputs + 1)
    assert layer(tf.zeros([1, 1])).numpy() == 1, (
        f"Keras {keras.__version__} does not call an instance's own `call`: change replace_call "
        "in aekd_tf/keras_private.py"
    )
    keras_private.restore_call(layer)
    iterator = keras.src.backend.tensorflow.trainer.TFEpochIterator
    assert "_distributed_dataset" in inspect.getsource(iterator), "_distributed_dataset is gone"


def test_they_do_what_they_say():
    model = functional()
    assert {"convolution", "norm"} <= {x.name for x in keras_private.flatten_layers(model)}
    model.compile("sgd", "mse")
    y, y_pred = tf.zeros([2, 8]), tf.ones([2, 8])
    assert float(keras_private.compiled_loss(model, y, y_pred, None)) == 1
    uncompiled = functional()
    with pytest.raises(ValueError, match="compile"):
        keras_private.assert_compiled(uncompiled, "fit")
    assert keras_private.compiled_loss(uncompiled, y, y_pred, None) is None
    optimizer = keras.optimizers.SGD(clipvalue=0.5)
    (clipped,) = keras_private.clip_gradients(optimizer, [tf.constant([2.0])])
    assert clipped.numpy() == 0.5
    assert len(keras_private.inbound_nodes(model.get_layer("norm"))) == 1
    assert keras_private.output_index(model.outputs[0]) == 0
    call, index = keras_private.producer(model.outputs[0])
    assert (call.operation, index) == (model.layers[-1], 0)
    (taken,), named = keras_private.call_arguments(call)
    assert taken is model.layers[-2].output
    assert not named
    # One input is kept in a list by a model, and alone by a Sequential.
    found = [keras.tree.flatten(part)[0] for part in keras_private.structures(model)]
    assert [id(part) for part in found] == [id(model.inputs[0]), id(model.outputs[0])]
    seen = []
    for compiled in (False, True):
        f = tf.function(lambda: seen.append(keras_private.in_xla()), jit_compile=compiled)
        f()
    assert seen == [False, True]
    assert not keras_private.in_cluster(tf.distribute.get_strategy())


def test_no_other_file_touches_a_private_attribute():
    private = re.compile(r"(?<!self)(?<!cls)\._(?!_)[a-z]\w*")
    ours = re.compile(r"QPSolution\._make|self\.model\._terms|error\._|importlib\._")
    for path in PACKAGE.rglob("*.py"):
        if path.name == "keras_private.py":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = ours.sub("", line)
            assert not private.search(code), f"{path}:{number}: {line.strip()}"


def test_folding_does_nothing_when_it_cannot_look(monkeypatch):
    model = functional()
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    expected = model(images, training=False)
    with folding.folded_batch_norm(model):
        assert "call" in vars(model.get_layer("convolution"))

    def hidden(*args):
        raise AttributeError("no such attribute")

    for name in ("flatten_layers", "inbound_nodes", "outbound_nodes"):
        with monkeypatch.context() as context:
            context.setattr(folding, name, hidden)
            with folding.folded_batch_norm(model):
                assert "call" not in vars(model.get_layer("convolution")), name
                np.testing.assert_array_equal(model(images, training=False), expected)

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import TeacherEnsemble, models
from aekd_tf.teachers.folding import _pairs, folded_batch_norm
from aekd_tf.teachers.forwards import own


def disturbed(model, seed=0):
    """The model with batch norm far from what it starts as."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(size=shape) * 0.2)
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(size=shape) * 0.2)
    return model


def images(size=16, channels=3):
    return np.random.default_rng(1).normal(size=(4, size, size, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("resnet20", 21),
        ("wrn_16_2", 7),
        ("vgg8", 5),
        ("mobilenetv2", 36),
        ("imagenet_resnet50", 53),
    ],
)
def test_outputs_are_the_same_but_for_rounding(name, pairs):
    model = disturbed(models.create(name, 10, (16, 16, 3)))
    assert len(_pairs(model)) == pairs
    expected = model(images(), training=False).numpy()
    found = own(model, images())[0].numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    # And nothing of it stays.
    np.testing.assert_array_equal(model(images(), training=False), expected)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_weights_loaded_later_count():
    model = models.create("resnet8", 10, (16, 16, 3))
    ensemble = TeacherEnsemble([model])
    forward = tf.function(ensemble.logits, autograph=False)
    forward(images())
    disturbed(model)
    expected = model(images(), training=False).numpy()
    np.testing.assert_allclose(forward(images())[0], expected, rtol=1e-4, atol=1e-5)


def test_nested_models_and_what_is_left_alone():
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    inner = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization()]
    )
    inputs = keras.Input((16, 16, 3))
    twice = keras.layers.BatchNormalization()(shared(inputs)) + shared(inputs)
    activated = keras.layers.Conv2D(3, 3, activation="relu", padding="same")(twice)
    outputs = inner(keras.layers.BatchNormalization()(activated))
    model = disturbed(keras.Model(inputs, outputs))
    assert [pair[0].name for pair in _pairs(model)] == [inner.layers[0].name]
    np.testing.assert_allclose(
        own(model, images())[0], model(images(), training=False), rtol=1e-4, atol=1e-5
    )


def test_layers_that_are_asked_for_keep_their_output():
    model = disturbed(models.create("mobilenetv2", 10, (16, 16, 3)))
    norm = model.get_layer("stage1")
    feature = keras.Model(model.input, norm.output)(images(), training=False)
    _, (found,) = TeacherEnsemble([model]).logits_and_features(images(), [[norm]])
    np.testing.assert_allclose(found[0], feature, rtol=1e-4, atol=1e-5)


def test_an_error_inside_leaves_the_model_whole():
    model = models.create("resnet8", 10, (16, 16, 3))
    with pytest.raises(ValueError, match="incompatible"), folded_batch_norm(model):
        model(images(channels=2), training=False)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())

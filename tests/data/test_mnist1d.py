"""MNIST-1D, and float arrays of any shape in the pipelines and in the cache."""

import random
import sys

import keras
import numpy as np
import pytest

from aekd_tf import data
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.cache.views import Views
from aekd_tf.data import mnist1d

pytestmark = pytest.mark.xdist_group("mnist1d")  # generated once


@pytest.fixture
def signals():
    """Sixty float signals of rank 2, and a Dataset of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 12, 2)).astype(np.float32) / 3
    labels = rng.integers(0, 3, 60)
    parts = [data.Split(values[a:b], labels[a:b]) for a, b in ((0, 40), (40, 50), (50, 60))]
    return data.Dataset("signals", 3, *parts, (0.0,), (1.0,), 0, False)


def test_mnist1d_has_power_and_balance():
    dataset = data.load("mnist1d")
    sizes = [len(s) for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [4000, 500, 10_000]
    assert dataset.image_shape == (40, 1)
    assert dataset.train.images.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [1000] * 10)
    np.testing.assert_allclose(dataset.test.images.std(), 1, rtol=1e-5)


def test_generation_repeats_and_leaves_the_global_generators_alone():
    generated = mnist1d._generated.__wrapped__
    random.seed(5)
    np.random.seed(5)
    first = generated(100, 1)
    drawn = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    assert drawn == (random.random(), np.random.random())
    np.testing.assert_array_equal(generated(100, 1).images, first.images)
    assert (generated(100, 2).images != first.images).any()
    assert data.load("mnist1d").test is data.load("mnist1d").test


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    monkeypatch.setattr(mnist1d, "_generated", mnist1d._generated.__wrapped__)
    with pytest.raises(data.DataError, match=r"pip install 'aekd_tf\[evidence\]'") as caught:
        data.load("mnist1d")
    assert "\n" not in str(caught.value)


def test_floats_are_never_rounded(signals):
    batches = data.training_pipeline(signals, batch_size=40, epochs=1, seed=0)
    shown = np.concatenate([values.numpy() for values, _ in batches])
    assert {tuple(x.ravel()) for x in shown} == {tuple(x.ravel()) for x in signals.train.images}
    ((values, labels),) = data.evaluation_pipeline(signals, signals.test)
    np.testing.assert_array_equal(values, signals.test.images)
    np.testing.assert_array_equal(labels, signals.test.labels)


def test_only_images_are_cropped_or_flipped(signals):
    for options in ({"crop_padding": 1, "flip": False}, {"crop_padding": 0, "flip": True}):
        with pytest.raises(ValueError, match=r"inputs \(12, 2\): only images"):
            data.Dataset(
                "signals", 3, signals.train, signals.test, signals.test, (0.0,), (1.0,), **options
            )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_cache_takes_any_split_of_any_shape(tmp_path, signals, split):
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [keras.Input((12, 2)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    cache = TeacherCache(str(tmp_path), signals, Views(1, dtype="float32"), split=split)
    assert cache.fill([teacher], ["one"]) == 1
    expected = teacher(getattr(signals, split).images)
    np.testing.assert_allclose(cache.logits()[0], expected, rtol=1e-5, atol=1e-6)
    again = TeacherCache(str(tmp_path), signals, Views(1, dtype="float32"), split=split)
    assert again.fill([teacher], ["one"]) == 0

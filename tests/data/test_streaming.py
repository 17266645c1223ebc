"""Sets read from disk, on a small one in TensorFlow Datasets' format with awkward JPEGs."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import data
from aekd_tf.data.images import center_view, decode, random_view
from aekd_tf.experiments.run.dataset import tenth_held_out
from tools import tiny_imagenet


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with contextlib.redirect_stderr(io.StringIO()):
        tiny_imagenet.prepare(directory)
    return str(directory)


@pytest.fixture(scope="module")
def dataset(directory):
    return data.load("tiny_images", data_dir=directory, image_size=32)


def batches(dataset, **options):
    options = {"batch_size": 16, "epochs": 2, "seed": 1, **options}
    pipeline = data.training_pipeline(dataset, **options)
    return [(images.numpy(), labels.numpy()) for images, labels in pipeline]


def test_splits(dataset):
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [54, 6, 24]
    assert dataset.num_classes == 8
    assert dataset.image_shape == (32, 32, 3)
    for split in (dataset.train, dataset.validation, dataset.test):
        found = [y.numpy() for _, y in data.evaluation_pipeline(dataset, split, 10)]
        assert sum(map(len, found)) == len(split)


def test_no_validation_images_or_the_last_tenth(directory):
    whole = data.load("tiny_images", data_dir=directory, image_size=32, validation_examples=0)
    assert [len(s) for s in (whole.train, whole.validation)] == [60, 0]
    assert list(data.evaluation_pipeline(whole, whole.validation)) == []
    split = tenth_held_out(whole)
    assert [len(s) for s in (split.train, split.validation)] == [54, 6]
    labels = [
        np.concatenate([y.numpy() for _, y in data.evaluation_pipeline(whole, part)])
        for part in (whole.train, split.train, split.validation)
    ]
    np.testing.assert_array_equal(labels[0], np.concatenate(labels[1:]))


def test_gray_and_cmyk_decode_to_the_pixels_they_were():
    """Against PIL: brightness, channel by channel."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(6):
        encoded, mode, _ = tiny_imagenet.encoded(rng, index, index)
        found = decode(encoded).numpy()
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        assert found.shape == expected.shape
        assert np.abs(found.astype(float) - expected).mean() < 6, mode


def test_no_pipeline_starts_the_tuning_thread(dataset):
    for pipeline in (
        data.training_pipeline(dataset, batch_size=16, epochs=1, seed=0),
        data.evaluation_pipeline(dataset, dataset.validation, 16),
    ):
        assert pipeline.options().autotune.enabled is False


def test_epochs_differ_repeat_and_resume(dataset):
    first, again, other = batches(dataset), batches(dataset), batches(dataset, seed=2)
    assert [len(labels) for _, labels in first] == [16, 16, 16, 6] * 2
    for (a, y), (b, z) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(y, z)
    tf.random.set_seed(0)
    np.testing.assert_array_equal(batches(dataset)[5][0], first[5][0])
    assert not np.allclose(first[0][0], other[0][0])
    assert not np.array_equal(first[0][1], first[4][1])
    resumed = batches(dataset, first_epoch=1)
    for (a, _), (b, _) in zip(first[4:], resumed, strict=True):
        np.testing.assert_array_equal(a, b)
    labels = np.concatenate([y for _, y in first[:4]])
    assert sorted(labels) == sorted(np.concatenate([y for _, y in first[4:]]))


def test_views():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (50, 70, 3)), tf.uint8)
    seen = {random_view(image, [0, n], 24).numpy().tobytes() for n in range(20)}
    assert len(seen) == 20
    plain = tf.fill([50, 70, 3], tf.constant(200, tf.uint8))
    for view in (random_view(plain, [3, 4], 24), center_view(plain, 24)):
        assert view.shape == (24, 24, 3)
        np.testing.assert_allclose(view, np.full((24, 24, 3), 200.0), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_examples": 60}, "60 training images: 60 for training and 6 for validation"),
        ({"validation_examples": 60}, "do not fit"),
    ],
)
def test_too_many_examples(directory, options, message):
    with pytest.raises(ValueError, match=message):
        data.load("tiny_images", data_dir=directory, image_size=32, **options)


def test_imagenet_says_how_it_is_downloaded(tmp_path):
    with pytest.raises(data.DataError, match=r"downloaded by hand into .*manual.*ILSVRC") as error:
        data.load("imagenet2012", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_unknown_set(tmp_path):
    with pytest.raises(data.DataError, match=r"unknown dataset 'no_such_set'.*catalog"):
        data.load("no_such_set", data_dir=str(tmp_path))

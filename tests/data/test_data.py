import dataclasses

import numpy as np
import pytest

from aekd_tf import data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def collect(pipeline):
    images, labels = zip(*((x.numpy(), y.numpy()) for x, y in pipeline), strict=True)
    return images, labels


def test_digits_splits(digits):
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1200, 237, 360]
    assert digits.image_shape == (8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    images = np.concatenate([s.images for s in (digits.train, digits.validation, digits.test)])
    assert images.shape == (1797, 8, 8, 1)
    np.testing.assert_allclose(images.mean(), digits.mean, rtol=1e-3)
    np.testing.assert_allclose(images.std(), digits.std, rtol=1e-3)


def test_fewer_training_examples_keep_validation_and_test(digits):
    small = data.load("digits", train_examples=100)
    assert len(small.train) == 100
    np.testing.assert_array_equal(small.validation.images, digits.validation.images)
    np.testing.assert_array_equal(small.train.images, digits.train.images[:100])


def test_no_validation_examples(digits):
    whole = data.load("digits", validation_examples=0)
    assert [len(s) for s in (whole.train, whole.validation, whole.test)] == [1437, 0, 360]
    np.testing.assert_array_equal(whole.train.images[1200:], digits.validation.images)
    assert list(data.evaluation_pipeline(whole, whole.validation)) == []


@pytest.mark.parametrize("count", [1, 7, 1200])
def test_the_first_examples_alone_have_the_same_views(digits, count):
    """So their teachers' outputs are those in the cache of all examples."""
    first = dataclasses.replace(
        digits, train=data.Split(digits.train.images[:count], digits.train.labels[:count])
    )
    few, all_of_them = (
        np.concatenate([x.numpy() for x in data.view_pipeline(each, [3], 5, 500)])
        for each in (first, digits)
    )
    np.testing.assert_array_equal(few, all_of_them[:count])


def test_every_epoch_shows_every_example_once(digits):
    pipeline = data.training_pipeline(digits, batch_size=500, epochs=2, seed=0)
    _, labels = collect(pipeline)
    assert [len(batch) for batch in labels] == [500, 500, 200] * 2
    assert data.steps_per_epoch(digits, 500) == 3
    for epoch in (labels[:3], labels[3:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.sort(digits.train.labels))
    assert (labels[0] != labels[3]).any()


def test_same_seed_same_batches_and_exact_resume(digits):
    def batches(**options):
        return collect(data.training_pipeline(digits, batch_size=100, epochs=3, **options))

    first, again, resumed = batches(seed=4), batches(seed=4), batches(seed=4, first_epoch=2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[0][24:], resumed[0])
    np.testing.assert_array_equal(first[1][24:], resumed[1])
    assert (np.array(first[0]) != np.array(batches(seed=5)[0])).any()


def test_views_do_not_depend_on_the_batch_size(digits):
    def views(batch_size):
        pipeline = data.training_pipeline(digits, batch_size=batch_size, epochs=1, seed=1)
        return np.concatenate(collect(pipeline)[0])

    np.testing.assert_array_equal(views(64), views(1200))


def test_augmentation_is_a_crop_and_a_flip():
    image = np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4, 1)
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for row, column, mirror in np.ndindex(3, 3, 2):
        draws = np.array([[(row + 0.5) / 3, (column + 0.5) / 3, 0.25 if mirror else 0.75]])
        expected = padded[:, row : row + 4, column : column + 4]
        expected = expected[:, :, ::-1] if mirror else expected
        np.testing.assert_array_equal(data.augment(image, draws, 1, flip=True), expected)
    np.testing.assert_array_equal(data.augment(image, draws * 0.9, 0, flip=False), image)


def test_evaluation_pipeline_is_in_order_and_normalized(digits):
    images, labels = collect(data.evaluation_pipeline(digits, digits.test, 100))
    np.testing.assert_array_equal(np.concatenate(labels), digits.test.labels)
    np.testing.assert_allclose(
        np.concatenate(images), (digits.test.images - 4.884) / 6.017, rtol=1e-5
    )


def test_no_pipeline_starts_the_tuning_thread(digits):
    """Iterators that are dropped before their end wait for it, up to a minute."""
    for pipeline in (
        data.training_pipeline(digits, batch_size=100, epochs=1, seed=0),
        data.evaluation_pipeline(digits, digits.test, 100),
    ):
        assert pipeline.options().autotune.enabled is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digits", "train_examples": 5000}, "digits has 1437 training images: 5000"),
        ({"name": "digits", "train_examples": 0}, "at least 1"),
        ({"name": "digits", "validation_examples": -1}, "-1 for validation do not fit"),
        ({"name": "digits", "validation_examples": 1437}, "do not fit"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_absent_data_without_network_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("aekd_tf.data.tfds._reachable", lambda host: False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(data.DataError, match=r"cifar100 is not in .*data_dir.*digits") as error:
        data.load("cifar100", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)

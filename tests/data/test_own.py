"""A user's own data: what is read, how it is split, what is refused."""

import contextlib
import dataclasses
import io
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aekd_tf import data
from aekd_tf.data import folder, head, own, splitting
from aekd_tf.data.dataset import DataError
from tools import photos, tiny_imagenet

rng = np.random.default_rng(0)


def refused(message):
    return pytest.raises(DataError, match=message)


def npz(directory, **arrays):
    path = str(directory / "data.npz")
    np.savez(path, **arrays)
    return path


def csv(directory, text):
    path = directory / "table.csv"
    path.write_text(text)
    return str(path)


# Splits


def test_a_split_depends_on_the_examples_alone():
    labels = np.repeat([0, 1, 2], [100, 50, 7])
    contents = [str(number).encode() for number in range(157)]
    made = splitting.digests(labels.tolist(), contents)
    masks = splitting.split(labels, made, test=True)
    order = rng.permutation(157)
    again = splitting.split(labels[order], [made[place] for place in order], test=True)
    for mask, other in zip(masks, again, strict=True):
        np.testing.assert_array_equal(mask[order], other)
    assert (sum(map(np.asarray, masks)) == 1).all()
    _, validation, test = masks
    assert [int(test[labels == each].sum()) for each in range(3)] == [20, 10, 1]
    assert [int(validation[labels == each].sum()) for each in range(3)] == [8, 4, 1]
    grown = splitting.digests([*labels.tolist(), 0], [*contents, b"new"])
    assert grown[:157] == made


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_stay_together(copies):
    contents = [str(number // copies).encode() for number in range(100)]
    labels = np.zeros(100, int)
    masks = splitting.split(labels, splitting.digests(labels.tolist(), contents), test=True)
    for mask in masks:
        assert (mask.reshape(-1, copies).sum(1) % copies == 0).all()


# Heads


@pytest.mark.parametrize(
    ("labels", "asked", "one_output", "found", "names"),
    [
        ([3, 5, 3], "auto", False, "classes", ("3", "5")),
        ([3.0, 5.0, 3.0], "auto", False, "classes", ("3", "5")),
        (["3", "5", "3"], "auto", False, "classes", ("3", "5")),
        (["3.0", "10", "3"], "auto", False, "classes", ("3", "10")),
        (["b", "a", "b"], "auto", False, "classes", ("a", "b")),
        ([0, 1, 1], "auto", False, "classes", ("0", "1")),
        ([0, 1, 1], "auto", True, "logit", ("output 0",)),
        ([True, False, True], "auto", True, "logit", ("output 0",)),
        ([0, 1, 2], "auto", True, "regression", ("output 0",)),
        ([0.5, 1, 2], "auto", False, "regression", ("output 0",)),
        ([[0, 1], [1, 1]], "auto", False, "labels", ("output 0", "output 1")),
        ([[0, 1], [1, 0]], "classes", False, "classes", ("0", "1")),
        ([[0.5, 1], [1, 1]], "auto", False, "regression", ("output 0", "output 1")),
        ([1, 2, 3], "regression", False, "regression", ("output 0",)),
        ([1234567, 1234568], "auto", False, "classes", ("1234567", "1234568")),
        ([b"cat", b"dog"], "auto", False, "classes", ("cat", "dog")),
        ([[1], [2], [1]], "auto", False, "classes", ("1", "2")),
    ],
)
def test_heads(labels, asked, one_output, found, names):
    targets = head.targets_of(np.array(labels), asked, (), one_output)
    assert (targets.head, targets.names) == (found, names)
    assert len(targets.values) == len(labels)
    if found == "classes":
        assert targets.values.dtype == np.int64
        assert targets.outputs == len(names) == targets.values.max() + 1
    else:
        assert targets.values.shape == (len(labels), targets.outputs)
        expected = np.reshape(np.array(labels, np.float32), targets.values.shape)
        np.testing.assert_array_equal(targets.values, expected)


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        ([1, 1, 1], "auto", "all examples are of one class, 1"),
        ([1.0, np.nan, 2.0], "auto", "label 1 .* is not finite"),
        (["a", "b"], "regression", "head=regression requires numbers"),
        ([0.5, 1], "classes", "requires whole numbers or texts"),
        ([0, 2], "logit", "requires labels that are 0 or 1"),
        ([[0, 1], [1, 1]], "classes", "requires one label per example, not 2"),
        ([[0, 1], [1, 1]], "logit", "requires one label, not 2"),
        ([[0, 1], [0, 1]], "labels", "there is nothing to learn"),
        (np.zeros((2, 2, 2)), "auto", r"labels have shape \(2, 2, 2\)"),
    ],
)
def test_labels_that_do_not_fit(labels, asked, message):
    with refused(message):
        head.targets_of(np.array(labels), asked, (), False)


# Tables and arrays


def test_a_table(tmp_path):
    rows = "\n".join(f"{x},{'ab'[x % 2]},{-x}.5" for x in range(40))
    loaded = own.load_own(csv(tmp_path, f"one, target ,two\n{rows}\n"))
    dataset = loaded.dataset
    assert (dataset.name, dataset.head, loaded.names) == ("table", "classes", ("a", "b"))
    assert dataset.image_shape == (2,)
    inputs = np.concatenate([s.images for s in (dataset.train, dataset.validation, dataset.test)])
    labels = np.concatenate([s.labels for s in (dataset.train, dataset.validation, dataset.test)])
    np.testing.assert_array_equal(inputs[:, 0] % 2, labels)
    np.testing.assert_array_equal(np.sort(inputs[:, 0]), np.arange(40))
    np.testing.assert_allclose(dataset.normalization[0], dataset.train.images.mean(0), rtol=1e-6)
    order = np.concatenate([loaded.places[split] for split in own.SPLITS])
    np.testing.assert_array_equal(order, inputs[:, 0])
    assert own.load_own(csv(tmp_path, f"one, target ,two\n{rows}\n")).dataset.content == (
        dataset.content
    )


def test_several_label_columns(tmp_path):
    rows = "\n".join(f"{x},{x % 2},{x % 3 == 0:d},{x / 7}" for x in range(40))
    path = csv(tmp_path, f"x,first,second,third\n{rows}\n")
    loaded = own.load_own(path, label=["first", "second"])
    assert (loaded.dataset.head, loaded.names) == ("labels", ("first", "second"))
    assert loaded.dataset.image_shape == (2,)
    loaded = own.load_own(path, label=["third"])
    assert (loaded.dataset.head, loaded.names) == ("regression", ("third",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column 'label' or 'target', only a, b"),
        ("a,label\n", "has no rows below its header"),
        ("a,label\n1,2\n3\n", "row 3: 1 cells, but the header has 2"),
        ("a,label\n1,x\noops,y\n", "row 3, column 'a': 'oops' is no finite number"),
        ("a,label\n1,x\nnan,y\n", "row 3, column 'a': 'nan' is no finite number"),
        ("label\n1\n2\n", "has no column besides the labels"),
        ("a,label\n1,x\n2,\n", "row 3, column 'label': the label is missing"),
        ("a,a,label\n1,2,x\n", "has two columns 'a'"),
        ("a,target,label\n1,2,x\n", "has a column 'label' and a column 'target'"),
        ('a,label\n1,"x\n' + "y" * 140_000, "cannot be read"),
    ],
)
def test_bad_tables(text, message, tmp_path):
    with refused(message):
        own.load_own(csv(tmp_path, text))


def test_arrays_and_their_splits(tmp_path):
    images = rng.integers(0, 256, (60, 9, 9)).astype(np.uint8)
    labels = np.arange(60) % 3
    whole = own.load_own(npz(tmp_path, x=images, y=labels)).dataset
    assert whole.image_shape == (9, 9, 1)
    assert whole.crop_padding == 1
    assert not whole.flip
    assert [len(s) for s in (whole.train, whole.validation, whole.test)] == [42, 6, 12]
    parts = {"x_train": images[:40], "y_train": labels[:40]}
    parts |= {"x_test": images[40:], "y_test": labels[40:]}
    given = own.load_own(npz(tmp_path, **parts))
    assert len(given.dataset.test) == 20
    assert len(given.dataset.train) + len(given.dataset.validation) == 40
    parts |= {"x_validation": images[:5], "y_validation": labels[:5]}
    given = own.load_own(npz(tmp_path, **parts))
    assert [len(given.dataset.train), len(given.dataset.validation)] == [40, 5]
    np.testing.assert_array_equal(given.dataset.train.images[..., 0], images[:40])
    assert own.load_own(npz(tmp_path, **parts), augment="crop_flip").dataset.flip
    assert own.load_own(npz(tmp_path, **parts), augment="none").dataset.crop_padding == 0


@pytest.mark.parametrize(
    ("inputs", "shape", "augment"),
    [
        (np.zeros((60, 40, 3), np.float32), (40, 3), "none"),
        (np.zeros((60, 40, 3), np.uint8), (40, 3, 1), "crop"),
        (np.zeros((60, 28, 28), np.float32), (28, 28, 1), "crop"),
        (np.zeros((60, 40), np.float32), (40,), "none"),
    ],
)
def test_images_and_signals(inputs, shape, augment, tmp_path):
    inputs = inputs + rng.integers(0, 9, inputs.shape).astype(inputs.dtype)
    loaded = own.load_own(npz(tmp_path, x=inputs, y=np.arange(60) % 3))
    assert (loaded.dataset.image_shape, loaded.augment) == (shape, augment)
    shown = "x".join(map(str, shape))
    assert any(note.startswith(f"inputs have the shape {shown}") for note in loaded.notes)


def test_rows_of_many_labels_are_held_out_too(tmp_path):
    x, y = rng.normal(size=(1000, 4)), rng.integers(0, 2, (1000, 12))
    dataset = own.load_own(npz(tmp_path, x=x, y=y)).dataset
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [720, 80, 200]


def test_copies_and_shared_examples_are_said(tmp_path):
    images = rng.normal(size=(60, 4)).astype(np.float32)
    labels = np.arange(60) % 3
    parts = {"x_train": np.concatenate([images[:40], images[:3]]), "x_test": images[37:]}
    parts |= {"y_train": np.concatenate([labels[:40], labels[:3]]), "y_test": labels[37:]}
    notes = own.load_own(npz(tmp_path, **parts)).notes
    assert "6 examples are copies of others" in notes
    assert any("test examples are among the training examples" in note for note in notes)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "holds a: give x and y"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, "x has 3 examples but 2 labels"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "x has no examples"),
        ({"x": np.array(["a", "b"]), "y": np.arange(2)}, "x is <U1: give numbers"),
        ({"x": np.array([[1.0], [np.inf]]), "y": np.arange(2)}, r"x\[1\] holds values that"),
        ({"x": np.array([{}, {}]), "y": np.arange(2)}, "cannot be read"),
        ({"x": np.float32(3), "y": np.arange(2)}, "x or its labels are one number"),
        ({"x": np.zeros((2, 3)), "y": np.arange(2)}, "2 examples are too few to split"),
    ],
)
def test_bad_arrays(arrays, message, tmp_path):
    with refused(message):
        own.load_own(npz(tmp_path, **arrays))


def test_no_archive(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"no archive")
    with refused("cannot be read"):
        own.load_own(str(path))
    for source, message in (("nowhere", "is no folder"), ("nowhere.csv", "does not exist")):
        with refused(message):
            own.load_own(str(tmp_path / source))
    with refused("label names columns of a .csv file"):
        own.load_own(npz(tmp_path, x=np.zeros((3, 2)), y=np.arange(3)), label=["y"])


# Folders of images


def test_awkward_images_are_read_as_pil_reads_them(tmp_path):
    expected = photos.write(tmp_path)
    files, notes = folder.scan(str(tmp_path), progress=False)
    assert notes == []
    assert {file.path for file in files} == set(expected)
    for file in files:
        difference = np.abs(file.pixels.astype(int) - expected[file.path])
        assert difference.mean() < (8 if file.path.endswith(".jpg") else 1), file.path
        assert file.label == os.path.basename(os.path.dirname(file.path))


def test_what_is_no_image_is_skipped_and_said(tmp_path):
    expected = photos.write(tmp_path)
    photos.spoil(str(tmp_path))
    files, notes = folder.scan(str(tmp_path), progress=False)
    assert {file.path for file in files} == set(expected)
    assert notes[0] == "left out the class empty, which has no files"
    assert notes[1].startswith("skipped 3 files that are no images, such as ")
    assert notes[1].endswith("broken.jpg")
    loaded = own.load_own(str(tmp_path))
    assert loaded.names == photos.CLASSES
    assert set(notes) <= set(loaded.notes)


def test_a_class_folder_may_be_a_link(tmp_path):
    photos.write(tmp_path / "elsewhere", classes=("cat",))
    photos.write(tmp_path / "photos", classes=("dog",), seed=1)
    os.symlink(tmp_path / "elsewhere" / "cat", tmp_path / "photos" / "cat")
    files, _ = folder.scan(str(tmp_path / "photos"), progress=False)
    assert sorted({file.label for file in files}) == ["cat", "dog"]
    assert len(files) == 40


def test_folders_of_splits(tmp_path):
    photos.write(tmp_path / "train")
    photos.write(tmp_path / "val", count=5, seed=1)
    photos.write(tmp_path / "test", count=7, seed=2)
    dataset = own.load_own(str(tmp_path)).dataset
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [60, 15, 21]


def test_images_of_several_sizes_are_read_from_disk(tmp_path):
    photos.write(tmp_path, sizes=(20, 33, 70))
    loaded = own.load_own(str(tmp_path), image_size=24)
    dataset = loaded.dataset
    assert loaded.augment == "resized_crop"
    assert isinstance(dataset.train, data.StreamedSplit)
    assert dataset.image_shape == (24, 24, 3)
    options = {"batch_size": 16, "epochs": 2, "seed": 1}
    batches = list(data.training_pipeline(dataset, **options))
    labels = np.concatenate([y.numpy() for _, y in batches])
    half = len(labels) // 2
    assert sorted(labels[:half]) == sorted(labels[half:]) == sorted(dataset.train.labels)
    for images, found in data.evaluation_pipeline(dataset, dataset.test, 8):
        assert images.numpy().min() >= 0
        assert images.numpy().max() > 1, "from 0 to 255"
        np.testing.assert_array_equal(found.numpy().shape, images.shape[:1])
    means = [
        images.numpy().mean() for images, y in data.evaluation_pipeline(dataset, dataset.test, 1)
    ]
    assert np.corrcoef(means, dataset.test.labels)[0, 1] > 0.9
    with refused("augment=crop requires images of one size"):
        own.load_own(str(tmp_path), augment="crop")


def test_random_views_of_own_images_are_not_mirrored(tmp_path):
    """A flip spoils digits."""
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = np.zeros((80, 80, 3), np.uint8)
            pixels[:, :40] = 200 + number
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    dataset = own.load_own(str(tmp_path), image_size=16).dataset
    for images, _ in data.training_pipeline(dataset, batch_size=4, epochs=5, seed=0):
        values = images.numpy().mean((1, 3))
        assert (values[:, :1] >= values[:, -1:] - 1e-3).all()


def test_folders_of_splits_without_a_test(tmp_path):
    photos.write(tmp_path / "Train", count=30)
    photos.write(tmp_path / "Val", count=5, seed=1)
    loaded = own.load_own(str(tmp_path))
    dataset = loaded.dataset
    assert loaded.names == photos.CLASSES
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [72, 15, 18]
    assert "held out 18 for test, by the examples' digests" in loaded.notes


def test_a_class_of_the_test_alone(tmp_path):
    photos.write(tmp_path / "train", count=5)
    photos.write(tmp_path / "test", count=5, classes=("bird", "Cat", "dog"))
    with refused("no training example is of the class Cat"):
        own.load_own(str(tmp_path))


def test_images_on_disk_without_views(tmp_path):
    photos.write(tmp_path, sizes=(20, 70))
    dataset = own.load_own(str(tmp_path), image_size=24, augment="none").dataset
    options = {"batch_size": 100, "epochs": 2, "seed": None, "view_seed": 0}
    first, second = [x.numpy() for x, _ in data.training_pipeline(dataset, **options)]
    np.testing.assert_array_equal(first, second)
    ((centers, _),) = data.evaluation_pipeline(dataset, dataset.train, 100)
    np.testing.assert_array_equal(first, centers)


def test_statistics_of_images_on_disk_are_of_all_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "_SAMPLE", 10)
    photos.write(tmp_path, sizes=(20, 70), count=20)
    dataset = own.load_own(str(tmp_path), image_size=24).dataset
    images = [x for x, _ in data.evaluation_pipeline(dataset, dataset.train, 100)]
    expected = np.concatenate(images).mean((0, 1, 2))
    np.testing.assert_allclose(dataset.normalization[0], expected, atol=25)
    assert min(dataset.normalization[1]) > 40


def test_folders_without_classes(tmp_path):
    with refused("has no folders of images"):
        own.load_own(str(tmp_path))
    photos.write(tmp_path, classes=("cat",))
    with refused("has images of one class, cat"):
        own.load_own(str(tmp_path))


# TensorFlow Datasets


class TrainOnly(tiny_imagenet.TinyImages):
    """A set with a train split alone."""

    COUNTS = (("train", 80),)


def test_a_set_with_a_train_split_alone(tmp_path):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        TrainOnly(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    dataset = own.load_own("tfds:train_only", data_dir=str(tmp_path), image_size=16).dataset
    splits = dataset.train, dataset.validation, dataset.test
    assert sum(map(len, splits)) == 80
    assert 12 <= len(dataset.test) <= 20
    seen = []
    for split in splits:
        labels = [y.numpy() for _, y in data.evaluation_pipeline(dataset, split, 8)]
        np.testing.assert_array_equal(np.concatenate(labels), split.labels)
        seen += [bytes(image.numpy()) for image, _ in split.read()]
    assert len(set(seen)) == 80
    views = [x.numpy() for x, _ in data.training_pipeline(dataset, batch_size=8, epochs=1, seed=1)]
    assert sum(map(len, views)) == len(dataset.train)


def test_parts_of_chosen_examples(tmp_path):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        builder = TrainOnly(data_dir=tmp_path, file_format="tfrecord")
        builder.download_and_prepare()
    builder = tfds.builder("train_only", data_dir=tmp_path)
    whole = own.streaming.TfdsSplit(builder, "train", 80, 16, "image", "label")
    chosen = dataclasses.replace(whole, chosen=np.arange(80) % 2 == 0)
    assert len(chosen) == 40
    np.testing.assert_array_equal(chosen.labels, whole.labels[::2])
    np.testing.assert_array_equal(chosen.part(3, 9).labels, whole.labels[::2][3:9])
    np.testing.assert_array_equal(whole.part(3, 9).labels, whole.labels[3:9])
    assert chosen.identity != whole.identity != chosen.part(0, 9).identity

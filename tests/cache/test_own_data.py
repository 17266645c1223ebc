"""A cache of own data: training from it is training without it, and nothing is mixed up."""

import contextlib
import enum
import functools
import io
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import (
    CachedTeachers,
    EnsembleDistiller,
    FixedWeighting,
    Hints,
    TeacherCache,
    Views,
    data,
)
from aekd_tf.cache import sources
from aekd_tf.cache.store import CacheError
from aekd_tf.teachers.identity import value_digest
from tools import tiny_imagenet
from tools.refused import refused

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
rng = np.random.default_rng(0)
COUNT, CLASSES = 70, 5
IMAGES = rng.integers(0, 256, (COUNT, 6, 6, 1)).astype(np.uint8)
TABLE = rng.normal(size=(COUNT, 7)).astype(np.float32)
LABELS = rng.integers(0, CLASSES, COUNT)
WEIGHTS = rng.uniform(0.5, 2.0, COUNT).astype(np.float32)


@pytest.fixture(autouse=True)
def _deterministic_kernels():
    """As in every command: without, sums over threads round in any order."""
    tf.config.experimental.enable_op_determinism()


def inputs_of(shapes):
    if isinstance(shapes, dict):
        return {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    return keras.Input(shapes)


def elementwise(seed, shapes, maps=False, classes=CLASSES):
    """A teacher without a matrix product, which gives an example the same bits in any batch."""
    keras.utils.set_random_seed(seed)
    options = {"gamma_initializer": "random_normal", "beta_initializer": "random_normal"}
    inputs = inputs_of(shapes)
    parts = []
    for tensor in keras.tree.flatten(inputs):
        tensor = keras.layers.BatchNormalization(**options)(tensor)
        if maps:
            tensor = keras.layers.MaxPooling2D(2, name="pooled")(tensor)
        parts.append(keras.layers.Flatten()(tensor)[:, :classes])
    return keras.Model(inputs, sum(parts), name=f"elementwise_{seed}")


def pupil(shapes, classes=CLASSES):
    keras.utils.set_random_seed(9)
    inputs = inputs_of(shapes)
    parts = []
    for tensor in keras.tree.flatten(inputs):
        if len(tensor.shape) == 4:
            tensor = keras.layers.Conv2D(4, 3, 2, "same", name="seen")(tensor)
        parts.append(keras.layers.Dense(classes)(keras.layers.Flatten()(tensor)))
    return keras.Model(inputs, sum(parts))


def cropped(image, seed):
    """A random crop, as float32."""
    image = tf.pad(tf.cast(image, tf.float32) / 255, [[1, 1], [1, 1], [0, 0]])
    return tf.image.stateless_random_crop(image, (6, 6, 1), seed)


def noisy(inputs, seed):
    """Noise on one of two inputs."""
    image, row = inputs["image"], inputs["row"]
    noise = tf.random.stateless_normal(tf.shape(row), seed)
    return {"image": tf.cast(image, tf.float32) / 255, "row": row + noise}


class Batches(keras.utils.PyDataset):
    """Batches of nine, the last one smaller."""

    def __init__(self, images=IMAGES, **options):
        super().__init__(**options)
        self.images = images

    def __len__(self):
        return -(-COUNT // 9)

    def __getitem__(self, index):
        part = slice(9 * index, 9 * index + 9)
        return self.images[part], LABELS[part], WEIGHTS[part]


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with contextlib.redirect_stderr(io.StringIO()):
        tiny_imagenet.prepare(directory)
    return data.load("tiny_images", data_dir=str(directory), image_size=6, validation_examples=5)


BOTH = {"image": (6, 6, 1), "row": (7,)}
KINDS = {
    "arrays": ((IMAGES, LABELS, WEIGHTS), (6, 6, 1), cropped),
    "no augmentation": ((TABLE, LABELS), (7,), None),
    "several inputs": (({"image": IMAGES, "row": TABLE}, LABELS), BOTH, noisy),
    "tf.data": (slices(IMAGES, LABELS), (6, 6, 1), cropped),
    "tf.data of several inputs": (slices({"image": IMAGES, "row": TABLE}, LABELS), BOTH, noisy),
    "PyDataset": (Batches(), (6, 6, 1), cropped),
    "read from disk": (None, (6, 6, 3), None),
}


def cache_of(directory, dataset, augmentation=None, views=3, batch_size=32, name="mine", **options):
    options = {"name": name, "augmentation": augmentation, **options}
    if isinstance(dataset, data.Dataset):
        options = {}
    views = Views(views, seed=4, dtype="float32")
    return TeacherCache(directory, dataset, views, batch_size, **options)


def trained(cache, teachers, shapes, classes=CLASSES, **options):
    """A student's weights after three epochs."""
    student = pupil(shapes, classes)
    options = {"weighting": "average", **options}
    distiller = EnsembleDistiller(student, teachers, **options)
    distiller.compile(keras.optimizers.SGD(0.05), LOSS, jit_compile=False)
    outputs = isinstance(teachers, CachedTeachers)
    batches = cache.dataset(32, seed=5, epochs=3, outputs=outputs)
    steps = len(batches) // 3
    distiller.fit(batches, epochs=3, steps_per_epoch=steps, verbose=0)
    return distiller.get_weights()


@pytest.mark.parametrize("kind", KINDS)
def test_training_from_the_cache_is_training_without(kind, tmp_path, streamed, monkeypatch):
    monkeypatch.setattr(sources, "SHARD", 20)
    dataset, shapes, augmentation = KINDS[kind]
    dataset = streamed if dataset is None else dataset
    classes = 8 if kind == "read from disk" else CLASSES
    networks = [elementwise(seed, shapes, classes=classes) for seed in (1, 2)]
    views = 1 if kind == "no augmentation" else 3
    cache = cache_of(tmp_path, dataset, augmentation, views)
    count = 55 if kind == "read from disk" else COUNT
    shards = 1 if isinstance(dataset, tuple) else -(-count // 20)
    assert cache.fill(networks, ["a", "b"], progress=False) == 2 * views * shards
    cached = trained(cache, cache.teachers, shapes, classes)
    online = trained(cache, networks, shapes, classes)
    for found, expected in zip(cached, online, strict=True):
        np.testing.assert_array_equal(found, expected)
    again = cache_of(tmp_path, dataset, augmentation, views, batch_size=16)
    assert again.fill(networks, ["a", "b"], progress=False) == 0


@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_hints_are_cached_too(kind, tmp_path):
    dataset, shapes, augmentation = KINDS[kind]
    networks = [elementwise(seed, shapes, maps=True) for seed in (1, 2)]
    hints = Hints("seen", "pooled")
    cache = cache_of(tmp_path, dataset, augmentation, hints=hints)
    cache.fill(networks, progress=False)
    options = {"hints": hints, "hint_weight": 1.0}
    cached = trained(cache, cache.teachers, shapes, **options)
    for found, expected in zip(cached, trained(cache, networks, shapes, **options), strict=True):
        np.testing.assert_array_equal(found, expected)


def epochs_of(cache, epochs=3, seed=5, batch_size=32):
    """The labels and inputs of each epoch, in the order they come."""
    batches = cache.dataset(batch_size, seed=seed, epochs=epochs, outputs=False)
    steps = len(batches) // epochs
    parts = [(x.numpy(), y.numpy()) for x, y, *_ in batches]
    rows = [parts[start : start + steps] for start in range(0, len(parts), steps)]
    return [tuple(map(np.concatenate, zip(*row, strict=True))) for row in rows]


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_epochs_are_orders_of_all_examples_that_repeat(kind, tmp_path):
    dataset, _, augmentation = KINDS[kind]
    cache = cache_of(tmp_path, dataset, augmentation)
    cache.fill([], progress=False)
    first, again = epochs_of(cache), epochs_of(cache)
    tf.random.set_seed(3)
    for (x, y), (other_x, other_y) in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)
        assert sorted(y) == sorted(LABELS)
        assert not np.array_equal(y, LABELS)
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(first[0][1], epochs_of(cache, seed=6)[0][1])
    in_order = epochs_of(cache, seed=None)
    for _, y in in_order:
        np.testing.assert_array_equal(y, LABELS)
    assert not np.array_equal(in_order[0][0], in_order[1][0])
    # A view belongs to the example, whatever the batch and the number of epochs.
    np.testing.assert_array_equal(in_order[0][0], epochs_of(cache, 1, None, 7)[0][0])
    np.testing.assert_array_equal(in_order[0][0], epochs_of(cache, 4, None)[3][0])


def test_the_seed_is_made_of_seed_view_and_number(tmp_path):
    """No two examples or views share one, and it is an int32 `[2]`."""

    def its_seed(row, seed):
        return tf.ensure_shape(seed, [2])

    cache = cache_of(tmp_path, (TABLE, LABELS), its_seed)
    seen = np.concatenate([x for x, _ in epochs_of(cache)])
    assert seen.dtype == np.int32
    assert len(np.unique(seen, axis=0)) == 3 * COUNT
    other = TeacherCache(tmp_path, (TABLE, LABELS), Views(3, seed=5), augmentation=its_seed)
    both = np.concatenate([seen, *(x for x, _ in epochs_of(other))])
    assert len(np.unique(both, axis=0)) == 6 * COUNT


def changed(images=IMAGES, number=COUNT - 1):
    images = images.copy()
    images[number, 0, 0] ^= 1
    return images


def otherwise(image, seed):
    return cropped(image, seed) * 2


OTHERS = {
    "arrays": (changed(), LABELS, WEIGHTS),
    "tf.data": slices(changed(), LABELS),
    "PyDataset": Batches(changed()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_has_changed_is_refused_by_name(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SHARD", 20)
    dataset, shapes, augmentation = KINDS[kind]
    network = elementwise(1, shapes)
    cache_of(tmp_path, dataset, augmentation).fill([network], progress=False)
    with pytest.raises(CacheError, match=r"mine_teacher_0\.npy is of other dataset than"):
        cache_of(tmp_path, OTHERS[kind], augmentation).fill([network], progress=False)
    with pytest.raises(CacheError, match=r"mine_teacher_0\.npy is of other augmentation than"):
        cache_of(tmp_path, dataset, otherwise).fill([network], progress=False)
    one_more = cache_of(tmp_path, dataset, augmentation, name="others")
    assert one_more.fill([network], progress=False) > 0


@pytest.mark.parametrize("change", ["shuffle", "values"])
def test_data_that_change_are_noticed_while_training(change, tmp_path):
    """A `tf.data.Dataset` that shuffles or augments on its own has other examples each time."""
    if change == "shuffle":
        dataset = slices(TABLE, LABELS).shuffle(COUNT)
    else:
        draws = np.random.default_rng(0)
        dataset = tf.data.Dataset.from_generator(
            lambda: (
                (row + draws.normal(size=7), label)
                for row, label in zip(TABLE, LABELS, strict=True)
            ),
            output_signature=(tf.TensorSpec((7,), tf.float32), tf.TensorSpec((), tf.int64)),
        )
    cache = cache_of(tmp_path, dataset, views=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine has changed since it was first"):
        cache.fill([elementwise(1, (7,))], progress=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shuffle and augment through Teacher"):
        list(cache.dataset(32, outputs=False))


def test_shares_are_filled_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SHARD", 20)
    dataset, shapes, augmentation = KINDS["tf.data"]
    networks = [elementwise(seed, shapes) for seed in (1, 2)]
    whole = cache_of(tmp_path / "whole", dataset, augmentation)
    assert whole.fill(networks, progress=False) == 24
    caches = [cache_of(tmp_path / "parts", dataset, augmentation) for _ in range(3)]
    for index, cache in enumerate(caches):
        assert cache.fill(networks, progress=False, part=(index, 3)) == 8
    with pytest.raises(ValueError, match="call fill first, without part"):
        _ = caches[0].teachers
    assert caches[0].fill(networks, progress=False) == 0
    for view in range(3):
        np.testing.assert_array_equal(caches[0].logits(view), whole.logits(view))
    with refused("part is (3, 3)", "0 <= i < n"):
        whole.fill(networks, part=(3, 3))


def test_finished_shards_are_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SHARD", 20)
    dataset, shapes, augmentation = KINDS["PyDataset"]
    network = elementwise(1, shapes)
    cache = cache_of(tmp_path, dataset, augmentation)
    assert cache.fill([network], progress=False) == 12
    expected = cache.logits(1)
    manifest = tmp_path / "mine_teacher_0.json"
    content = json.loads(manifest.read_text())
    assert list(content["checksums"]) == [
        f"{view}.{shard}" for view in range(3) for shard in range(4)
    ]
    for name in ("1.0", "1.2"):
        del content["checksums"][name]
    manifest.write_text(json.dumps(content))
    array = np.load(tmp_path / "mine_teacher_0.npy", mmap_mode="r+")
    array[1, :20], array[1, 40:60] = 0, 0
    again = cache_of(tmp_path, dataset, augmentation, batch_size=7)
    assert again.fill([network], progress=False) == 2
    np.testing.assert_array_equal(again.logits(1), expected)
    array[2, 65] += 1
    with pytest.raises(CacheError, match=r"is damaged in view 2\.3"):
        cache_of(tmp_path, dataset, augmentation).fill([network], progress=False)


@pytest.mark.parametrize("head", ["regression", "labels"])
def test_other_heads(head, tmp_path):
    network = elementwise(1, (7,))
    cache = cache_of(tmp_path, (TABLE, TABLE[:, :CLASSES]), views=1, head=head)
    cache.fill([network], progress=False)
    assert cache.bytes_each(network) == COUNT * CLASSES * 4
    np.testing.assert_allclose(cache.logits()[0], network.predict(TABLE, verbose=0), rtol=1e-5)


def test_largest_logits_alone(tmp_path):
    network = elementwise(1, (7,))
    views = Views(1, dtype="float32", top_k=2)
    cache = TeacherCache(tmp_path, (TABLE, LABELS), views)
    cache.fill([network], progress=False)
    again = TeacherCache(tmp_path, (TABLE, LABELS), views)
    assert again.fill([network], progress=False) == 0
    expected = np.sort(network.predict(TABLE, verbose=0))[:, -2:]
    np.testing.assert_allclose(np.sort(again.logits()[0])[:, -2:], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="top_k is 5 but the data set has 5 classes"):
        TeacherCache(tmp_path, (TABLE, LABELS), Views(1, top_k=5)).fill([network])


def test_held_out_arrays_choose_the_weights(tmp_path):
    networks = [elementwise(seed, (7,)) for seed in (1, 2)]
    cache = cache_of(tmp_path, (TABLE, LABELS), views=1)
    cache.fill(networks, progress=False)
    held_out = cache_of(tmp_path, (TABLE[:30], LABELS[:30]), views=1, name="held_out")
    held_out.fill(networks, progress=False)
    distiller = EnsembleDistiller(pupil((7,)), cache.teachers, weighting="stacked")
    distiller.compile(keras.optimizers.SGD(0.05), LOSS, metrics=["accuracy"], jit_compile=False)
    history = distiller.fit(
        cache.dataset(32, seed=1), validation_data=held_out.dataset(32), verbose=0
    ).history
    assert {"val_accuracy", "val_loss"} <= set(history)
    expected = FixedWeighting.stacked(held_out.logits(), LABELS[:30])
    np.testing.assert_allclose(distiller.weighting.values, expected.values, atol=1e-6)


def test_data_without_labels(tmp_path):
    networks = [elementwise(seed, (7,)) for seed in (1, 2)]
    cache = cache_of(tmp_path, (TABLE, None), views=1)
    cache.fill(networks, progress=False)
    distiller = EnsembleDistiller(
        pupil((7,)), cache.teachers, weighting="aekd", student_loss_weight=0.0
    )
    distiller.compile(keras.optimizers.SGD(0.05))
    history = distiller.fit(cache.dataset(32, seed=1), verbose=0).history
    assert np.isfinite(history["kd_loss"]).all()


class Settings:
    """Of one's own, as a class or an object."""

    def __init__(self, by):
        self.by = by

    def scaled(self, image):
        return tf.cast(image, tf.float32) * self.by


class Kind(enum.Enum):
    ONE = 1.0
    TWO = 2.0


def normalization(mean):
    return keras.layers.Normalization(mean=mean, variance=1.0)


def adapted(mean):
    layer = keras.layers.Normalization(axis=None)
    layer.adapt(mean + np.array([[1.0], [-1.0], [1.0], [-1.0]]))
    return layer


def class_of(by):
    return type("Chosen", (), {"BY": by})


def by_tf_function(by):
    return tf.function(lambda image: tf.cast(image, tf.float32) * by)


# What a function of one's own may use, each made of a number.
USED = {
    "an object": (lambda by: Settings(by), lambda used, image: used.scaled(image)),
    "a namespace": (lambda by: types.SimpleNamespace(by=by), lambda used, image: image * used.by),
    "a class": (class_of, lambda used, image: tf.cast(image, tf.float32) * used.BY),
    "a member of an enum": (lambda by: Kind(by), lambda used, image: image * used.value),
    "a variable": (tf.Variable, lambda used, image: tf.cast(image, tf.float32) * used),
    "a tf.function": (by_tf_function, lambda used, image: used(image)),
    "a layer": (normalization, lambda used, image: used(tf.cast(image, tf.float32)[None])[0]),
    "a layer's weights": (adapted, lambda used, image: used(tf.cast(image, tf.float32))),
    "a partial": (
        lambda by: functools.partial(tf.multiply, by),
        lambda used, image: used(tf.cast(image, tf.float32)),
    ),
}


def using(kind, by):
    make, use = USED[kind]
    used = make(by)
    return lambda row, seed: use(used, row)


@pytest.mark.parametrize("kind", USED)
def test_what_an_augmentation_uses_belongs_to_it(kind):
    first, again, other = (value_digest(using(kind, by)) for by in (1.0, 1.0, 2.0))
    assert first == again
    assert first != other


def test_what_an_augmentation_uses_of_a_module(monkeypatch):
    module = types.ModuleType("mine_for_digests")
    exec("FACTOR = 2\ndef scaled(row):\n    return row * FACTOR\n", vars(module))
    monkeypatch.setitem(globals(), "mine_for_digests", module)
    first = value_digest(of_module)
    monkeypatch.setattr(module, "FACTOR", 3)
    assert value_digest(of_module) != first


def of_module(row, seed):
    return mine_for_digests.scaled(row)  # noqa: F821


def test_a_child_of_a_script_knows_its_functions():
    functions = [functools.partial(cropped), functools.partial(cropped)]
    names = []
    for function, module in zip(functions, ("__main__", "__mp_main__"), strict=True):
        copy = types.FunctionType(function.func.__code__, function.func.__globals__)
        copy.__module__ = module
        names.append(value_digest(copy))
    assert names[0] == names[1]


def test_arrays_that_change_are_noticed(tmp_path):
    table = TABLE.copy()
    cache = cache_of(tmp_path, (table, LABELS), views=1)
    cache.fill([elementwise(1, (7,))], progress=False)
    cache.dataset(32)
    table *= 2
    with refused("the arrays of mine have changed since fill: make a new TeacherCache"):
        cache.dataset(32)


def test_batches_keep_the_outputs_they_were_made_with(tmp_path):
    cache = cache_of(tmp_path, (TABLE, LABELS), views=1)
    cache.fill([elementwise(1, (7,))], ["a"], progress=False)
    batches = cache.dataset(COUNT)
    (before,) = [x["teacher_logits"].numpy() for x, _ in batches]
    cache.fill([elementwise(2, (7,))], ["b"], progress=False)
    (after,) = [x["teacher_logits"].numpy() for x, _ in batches]
    np.testing.assert_array_equal(before, after)


def test_texts_are_told_apart_by_what_they_say(tmp_path):
    def length(word, seed):
        return tf.cast(tf.strings.length(word), tf.float32)[None]

    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(CLASSES)])
    made = [
        cache_of(tmp_path, (np.array(words, object), LABELS[:3]), length, views=1)
        for words in (["a", "bc", "d"], [*"a", "b" + "c", "d"], ["a", "bc", "e"])
    ]
    assert made[0].fill([network], progress=False) == 1
    assert made[1].fill([network], progress=False) == 0
    with pytest.raises(CacheError, match="is of other dataset"):
        made[2].fill([network], progress=False)


class Plain(keras.Model):
    """Its call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.last = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.last(x)


def test_a_teacher_whose_call_takes_no_training(tmp_path):
    cache = cache_of(tmp_path, (TABLE, LABELS), views=1)
    assert cache.fill([Plain()], progress=False) == 1


def test_views_of_a_stream_without_outputs_require_no_fill(tmp_path):
    dataset, _, augmentation = KINDS["tf.data"]
    (first, *_) = epochs_of(cache_of(tmp_path, dataset, augmentation))
    assert sorted(first[1]) == sorted(LABELS)


class Mixed(Batches):
    """Its second batch has another dtype."""

    def __getitem__(self, index):
        x, y, w = super().__getitem__(index)
        return x / 2 if index else x, y, w


class Weighted(Batches):
    """Sample weights without labels."""

    def __getitem__(self, index):
        x, _, w = super().__getitem__(index)
        return x, None, w


class ByTensorFlow(Batches):
    def __getitem__(self, index):
        x, y, w = super().__getitem__(index)
        return tf.cast(x, tf.float32) / 2, y, w


def test_batches_made_by_tensorflow(tmp_path):
    cache = cache_of(tmp_path, ByTensorFlow(), views=1)
    assert cache.fill([elementwise(1, (6, 6, 1))], progress=False) == 1


def test_batches_of_another_dtype(tmp_path):
    cache = cache_of(tmp_path, Mixed(), views=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="batch 1 of mine is float64"):
        cache.fill([elementwise(1, (6, 6, 1))], progress=False)


def numpy_draws(image, seed):
    return tf.cast(image, tf.float32) * np.random.uniform(1, 2)


def random_flip(image, seed):
    return tf.image.random_flip_left_right(image)


MISUSES = {
    "no name": (slices(TABLE, LABELS), {"name": None}, "has no name: give TeacherCache(..., name="),
    "no name for batches": (Batches(), {"name": None}, "a Batches has no name"),
    "a folder as a name": ((TABLE, LABELS), {"name": "a/b"}, "name is 'a/b': give a name"),
    "unequal lengths": ((TABLE, LABELS[1:]), {}, "the arrays have 70, 69 examples"),
    "no examples": ((TABLE[:0], LABELS[:0]), {}, "mine has no examples"),
    "an empty stream": (slices(TABLE, LABELS).take(0), {}, "mine has no examples"),
    "no end": (slices(TABLE, LABELS).repeat(), {}, "mine has no end: give it without repeat()"),
    "batches": (slices(TABLE, LABELS).batch(8), {}, "mine gives batches: give single examples"),
    "sparse": (slices(tf.sparse.from_dense(TABLE), LABELS), {}, "mine gives sparse or ragged"),
    "views alike": ((TABLE, LABELS), {"views": 2}, "views are 2, without an augmentation"),
    "a split": ((TABLE, LABELS), {"split": "test"}, "split is 'test': give these examples a cache"),
    "weights without labels": (Weighted(), {}, "mine has sample weights without labels"),
    "constant draws": ((IMAGES, LABELS), {"augmentation": numpy_draws}, "numpy_draws gives"),
    "a flip of nothing": (
        (np.zeros_like(IMAGES), LABELS),
        {"augmentation": random_flip},
        "random_flip gives something else",
    ),
    "not its seed": (
        (IMAGES, LABELS),
        {"augmentation": random_flip},
        "random_flip gives something",
    ),
}


@pytest.mark.parametrize(
    "given", [(TABLE, list(LABELS)), (TABLE, None, WEIGHTS), (TABLE, LABELS, WEIGHTS, WEIGHTS)]
)
def test_tuples_that_are_no_arrays(given, tmp_path):
    with refused("the data set is a tuple of ndarray", "give arrays (inputs,", error=TypeError):
        TeacherCache(tmp_path, given)


def test_values_beyond_float16(tmp_path):
    huge = keras.Sequential([keras.Input((7,)), keras.layers.Rescaling(1e7)])
    cache = TeacherCache(tmp_path, (TABLE, TABLE), head="regression")
    with refused("beyond float16: give Views(dtype='float32')"):
        cache.fill([huge], progress=False)


@pytest.mark.parametrize("case", MISUSES)
def test_misuse_is_refused(case, tmp_path):
    dataset, options, message = MISUSES[case]
    with refused(message):
        cache_of(tmp_path, dataset, **{"views": 1, **options}).fill([], progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_augmentation_that_is_no_function(tmp_path):
    layer = keras.layers.RandomFlip()
    with refused("augmentation is a RandomFlip: give a function", error=TypeError):
        cache_of(tmp_path, (IMAGES, LABELS), layer)


def test_a_data_set_brings_its_augmentation(tmp_path):
    digits = data.load("digits", train_examples=20)
    with refused("digits brings its own augmentation: leave augmentation out"):
        TeacherCache(tmp_path, digits, augmentation=cropped)


def test_teachers_of_other_shapes(tmp_path):
    cache = cache_of(tmp_path, (TABLE, LABELS), views=1)
    other = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    with refused("teacher teacher_1 gives outputs 3, the first one 5"):
        cache.fill([elementwise(1, (7,)), other], progress=False)


def test_a_teacher_of_other_classes(tmp_path):
    cache = TeacherCache(tmp_path, data.load("digits", train_examples=20))
    with refused("teacher teacher_0 gives outputs 5, but digits has 10 classes: give"):
        cache.fill([elementwise(1, (8, 8, 1))], progress=False)


def test_epochs_do_not_begin_anew(tmp_path):
    cache = cache_of(tmp_path, (TABLE, LABELS), views=1)
    cache.fill([elementwise(1, (7,))], progress=False)
    distiller = EnsembleDistiller(pupil((7,)), cache.teachers, weighting="average")
    distiller.compile("sgd", LOSS, jit_compile=False)
    with refused("the data hold 1 epochs of cache.dataset, and epochs=4", "steps_per_epoch"):
        distiller.fit(cache.dataset(32, seed=1), epochs=4, verbose=0)
    distiller.fit(cache.dataset(32), epochs=2, verbose=0)  # in order they are alike anyway


def test_an_empty_cache(tmp_path):
    with refused("the cache is empty: call fill first"):
        cache_of(tmp_path, (TABLE, LABELS), views=1).dataset(32)

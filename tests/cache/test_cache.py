import functools
import gc
import json
import os
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import (
    CachedTeachers,
    EnsembleDistiller,
    Hints,
    TeacherAdapter,
    TeacherEnsemble,
    data,
    models,
)
from aekd_tf.cache.store import CacheError
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.cache.teacher_source import TeacherSource
from aekd_tf.cache.views import Views
from aekd_tf.teachers.forwards import Forwards
from tools.networks import elementwise
from tools.small_runs import small_runs

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SPLITS = ("train", "test")
NAMES = ["a", "b"]


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with small_runs():
        yield


@pytest.fixture(scope="module")
def dataset():
    return data.load("digits", train_examples=70)


@pytest.fixture(scope="module")
def networks():
    """Two untrained teachers: their outputs are as good to store as any."""
    keras.utils.set_random_seed(3)
    return [models.create("resnet8", 10, (8, 8, 1)) for _ in NAMES]


@pytest.fixture(scope="module")
def elementwise_networks():
    """Two teachers that give an image the same bits at any place in a batch."""
    return [elementwise(seed) for seed in (1, 2)]


def filled(directory, dataset, networks, **views):
    views = Views(**{"count": 3, "dtype": "float32", **views})
    cache = TeacherCache(directory, dataset, views, batch_size=32)
    return cache, cache.fill(networks, NAMES)


@pytest.fixture(autouse=True)
def _deterministic_kernels():
    """As in every command: without, sums over threads round in any order."""
    tf.config.experimental.enable_op_determinism()


def trained(dataset, networks, **pipeline):
    """A student's weights after three epochs."""
    keras.utils.set_random_seed(1)
    student = models.create("resnet8", 10, (8, 8, 1))
    distiller = EnsembleDistiller(student, networks)
    distiller.compile(keras.optimizers.SGD(0.05), LOSS, jit_compile=False)
    batches = data.training_pipeline(dataset, batch_size=32, epochs=3, seed=5, **pipeline)
    distiller.fit(batches, epochs=3, steps_per_epoch=3, shuffle=False, verbose=0)
    return student.get_weights()


def test_training_from_the_cache_is_training_without(tmp_path, dataset, elementwise_networks):
    cache, computed = filled(tmp_path, dataset, elementwise_networks, seed=9)
    assert computed == 6
    cached = trained(
        dataset, elementwise_networks, views=3, view_seed=9, teacher_outputs=cache.read
    )
    online = trained(dataset, elementwise_networks, view_seed=9)
    for found, expected in zip(cached, online, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_fewer_views_repeat(dataset):
    pipeline = data.training_pipeline(
        dataset, batch_size=70, epochs=4, seed=5, views=2, view_seed=1
    )
    epochs = [np.sort(images.numpy().sum((1, 2, 3))) for images, _ in pipeline]
    np.testing.assert_allclose(epochs[0], epochs[2], rtol=1e-5)
    np.testing.assert_allclose(epochs[1], epochs[3], rtol=1e-5)
    assert not np.allclose(epochs[0], epochs[1])


def test_every_entry_is_computed_once(tmp_path, dataset, networks):
    _, first = filled(tmp_path, dataset, networks)
    _, again = filled(tmp_path, dataset, networks)
    assert (first, again) == (6, 0)
    cache = TeacherCache(tmp_path, dataset, Views(3, dtype="float32"), batch_size=32)
    third = models.create("resnet8", 10, (8, 8, 1))
    assert cache.fill([*networks, third], [*NAMES, "c"]) == 3


def test_resumes_view_by_view(tmp_path, dataset, networks):
    filled(tmp_path, dataset, networks)
    manifest = tmp_path / "b.json"
    content = json.loads(manifest.read_text())
    before = np.load(tmp_path / "b.npy").copy()
    del content["checksums"]["1"]
    manifest.write_text(json.dumps(content))
    _, computed = filled(tmp_path, dataset, networks)
    assert computed == 1
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), before)
    manifest.unlink()
    _, computed = filled(tmp_path, dataset, networks)
    assert computed == 3


def test_float16_is_half_the_size_and_close(tmp_path, dataset, networks):
    cache, _ = filled(tmp_path / "half", dataset, networks, dtype="float16")
    filled(tmp_path / "full", dataset, networks)
    half, full = np.load(tmp_path / "half/a.npy"), np.load(tmp_path / "full/a.npy")
    assert os.path.getsize(tmp_path / "half/a.npy") - 128 == cache.bytes_each() == half.nbytes
    assert full.nbytes == 2 * half.nbytes
    np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-3)


def flip_a_byte(directory):
    content = bytearray((directory / "a.npy").read_bytes())
    content[len(content) // 2] ^= 1
    (directory / "a.npy").write_bytes(content)


def truncate(directory):
    content = (directory / "a.npy").read_bytes()
    (directory / "a.npy").write_bytes(content[: len(content) // 2])


def swap(directory):
    for ending in ("npy", "json"):
        os.rename(directory / f"a.{ending}", directory / "spare")
        os.rename(directory / f"b.{ending}", directory / f"a.{ending}")
        os.rename(directory / "spare", directory / f"b.{ending}")


def swap_data_alone(directory):
    os.rename(directory / "a.npy", directory / "spare")
    os.rename(directory / "b.npy", directory / "a.npy")
    os.rename(directory / "spare", directory / "b.npy")


def spoil_manifest(directory):
    (directory / "a.json").write_text('{"checksums": 3}')


def forget_the_data(directory):
    (directory / "a.npy").unlink()


def pickle_it(directory):
    np.save(directory / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, r"is damaged in view 1"),
        (truncate, r"cannot be read"),
        (swap, r"is of other teacher than"),
        (swap_data_alone, r"is damaged in view 0"),
        (spoil_manifest, r"cannot be read"),
        (forget_the_data, r"cannot be read"),
        (pickle_it, r"cannot be read"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, dataset, networks, damage, message):
    filled(tmp_path, dataset, networks)
    damage(tmp_path)
    with pytest.raises(CacheError, match=message) as error:
        filled(tmp_path, dataset, networks)
    assert str(tmp_path / "a.npy") in str(error.value)
    assert "delete" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_another_run_are_refused(tmp_path, dataset, networks):
    filled(tmp_path, dataset, networks)
    with pytest.raises(CacheError, match="is of other augmentation than"):
        filled(tmp_path, dataset, networks, seed=1)
    with pytest.raises(CacheError, match="is of other shape than"):
        filled(tmp_path, dataset, networks, count=2)
    with pytest.raises(CacheError, match="is of other dtype than"):
        filled(tmp_path, dataset, networks, dtype="float16")
    with pytest.raises(CacheError, match="is of other dataset, shape than"):
        filled(tmp_path, data.load("digits", train_examples=71), networks)
    retrained = [models.create("resnet8", 10, (8, 8, 1)), networks[1]]
    with pytest.raises(CacheError, match="is of other teacher than"):
        filled(tmp_path, dataset, retrained)


def test_another_declaration_of_the_same_network_is_another_teacher(tmp_path, dataset, networks):
    def adapted(**declared):
        return [TeacherAdapter(networks[0], **declared), networks[1]]

    rescaled = {"preprocessing": keras.layers.Rescaling(2.0)}
    filled(tmp_path, dataset, adapted(**rescaled))
    rescaled = {"preprocessing": keras.layers.Rescaling(2.0)}
    assert filled(tmp_path, dataset, adapted(**rescaled))[1] == 0
    for other in ({"class_map": range(9, -1, -1)}, {"preprocessing": keras.layers.Rescaling(3.0)}):
        with pytest.raises(CacheError, match="is of other teacher than"):
            filled(tmp_path, dataset, adapted(**other))


def hinted(dataset, networks, teachers, pooling, **pipeline):
    """Weights of a student and its regressors after three epochs of AE-KD*."""
    keras.utils.set_random_seed(1)
    student = models.create("resnet8", 10, (8, 8, 1))
    hints = Hints("stage2", pooling=pooling)
    distiller = EnsembleDistiller(student, teachers, hints=hints, hint_weight=1.0)
    distiller.compile(keras.optimizers.SGD(0.05), LOSS, jit_compile=False)
    batches = data.training_pipeline(dataset, batch_size=32, epochs=3, seed=5, **pipeline)
    distiller.fit(batches, epochs=3, steps_per_epoch=3, shuffle=False, verbose=0)
    return distiller.get_weights()


@pytest.mark.parametrize("pooling", [1, 2])
def test_cached_hints_are_the_teachers_own(tmp_path, dataset, elementwise_networks, pooling):
    views = Views(3, seed=9, dtype="float32")
    hints = Hints("stage2", pooling=pooling)
    cache = TeacherCache(tmp_path, dataset, views, batch_size=32, hints=hints)
    assert cache.fill(elementwise_networks, NAMES) == 6
    read = functools.partial(cache.read, hints=True)
    cached = hinted(
        dataset,
        elementwise_networks,
        cache.teachers,
        pooling,
        view_seed=9,
        views=3,
        teacher_outputs=read,
    )
    online = hinted(dataset, elementwise_networks, elementwise_networks, pooling, view_seed=9)
    assert len(cached) == len(online)
    for found, expected in zip(cached, online, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert os.path.getsize(tmp_path / "a.stage2.npy") - 128 == 3 * 70 * (4 // pooling) ** 2 * 4


def test_feature_maps_join_logits_that_are_there(tmp_path, dataset, networks):
    filled(tmp_path, dataset, networks)
    before = (tmp_path / "a.npy").stat().st_mtime_ns
    cache = TeacherCache(tmp_path, dataset, Views(3, dtype="float32"), 32, hints=Hints("stage2"))
    assert cache.fill(networks, NAMES) == 6
    assert (tmp_path / "a.npy").stat().st_mtime_ns == before
    other = Hints("stage2", pooling=2)
    cache = TeacherCache(tmp_path, dataset, Views(3, dtype="float32"), 32, hints=other)
    with pytest.raises(CacheError, match=r"a\.stage2\.npy is of other feature than"):
        cache.fill(networks, NAMES)


def test_teachers_need_not_be_there(tmp_path, dataset, networks):
    cache, _ = filled(tmp_path, dataset, networks, seed=9)
    pipeline = {"views": 3, "view_seed": 9, "teacher_outputs": cache.read}
    absent = trained(dataset, cache.teachers, **pipeline)
    present = trained(dataset, networks, **pipeline)
    for found, expected in zip(absent, present, strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="batches bring no outputs of the teachers"):
        trained(dataset, cache.teachers)
    with pytest.raises(ValueError, match="logits of 2 teachers, the distiller has 3"):
        trained(dataset, CachedTeachers(3), **pipeline)
    with pytest.raises(ValueError, match="hints need cached feature maps"):
        hinted(dataset, networks, cache.teachers, 1, **pipeline)


def test_a_distiller_of_cached_teachers_is_saved(tmp_path, dataset, networks):
    cache, _ = filled(tmp_path, dataset, networks)
    distiller = EnsembleDistiller(models.create("resnet8", 10, (8, 8, 1)), cache.teachers)
    distiller.build((None, 8, 8, 1))
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.teachers == CachedTeachers(2)
    for found, expected in zip(loaded.get_weights(), distiller.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_teachers_files_are_loaded_only_to_compute(tmp_path, dataset, networks, monkeypatch):
    paths = [str(tmp_path / f"{name}.keras") for name in NAMES]
    for network, path in zip(networks, paths, strict=True):
        network.save(path)
    cache = TeacherCache(tmp_path / "cache", dataset, Views(2), batch_size=32)
    assert not cache.holds(paths[0], "a")
    assert cache.fill(paths, NAMES) == 4
    assert cache.holds(paths[0], "a")
    again = TeacherCache(tmp_path / "cache", dataset, Views(2), batch_size=32)
    with monkeypatch.context() as context:
        context.setattr(keras.models, "load_model", lambda *args, **kwargs: pytest.fail("loaded"))
        assert again.fill(paths, NAMES) == 0
    assert again.digests == cache.digests
    np.testing.assert_array_equal(again.logits(1), cache.logits(1))
    models.create("resnet8", 10, (8, 8, 1)).save(paths[0])  # retrained
    assert not cache.holds(paths[0], "a")
    with pytest.raises(CacheError, match=r"a\.npy is of other teacher than"):
        again.fill(paths, NAMES)


def test_files_are_loaded_one_after_the_other(tmp_path, dataset, elementwise_networks, monkeypatch):
    """However many teachers: the first, whose graph all share, and the one that is computed."""
    paths = [str(tmp_path / f"{number}.keras") for number in range(4)]
    for path in paths:
        elementwise_networks[0].save(path)
    load, loaded = keras.models.load_model, []

    def counted(*args, **kwargs):
        gc.collect()
        assert sum(model() is not None for model in loaded) <= 2
        model = load(*args, **kwargs)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(keras.models, "load_model", counted)
    forwards = Forwards()
    sources = [TeacherSource(path, forwards) for path in paths]
    caches = [TeacherCache(tmp_path / "cache", dataset, Views(1), split=s) for s in SPLITS]
    for cache in caches:
        cache.fill(sources, [f"teacher_{number}" for number in range(4)], progress=False)
    assert len(loaded) == 8
    plain = TeacherCache(tmp_path / "plain", dataset, Views(1))
    plain.fill([elementwise_networks[0]], progress=False)
    for outputs in caches[0].logits():
        np.testing.assert_array_equal(outputs, plain.logits()[0])


def test_graphs_that_are_dropped_keep_no_teacher():
    forwards = Forwards()
    networks = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(n)]) for n in (2, 4)]
    kept = [weakref.ref(network) for network in networks]
    for network in networks:
        assert forwards.kind(network) is not None
        forwards.shared(network, tf.ones([1, 3]))
    assert forwards.architectures == 2
    del network, networks
    forwards.clear()
    gc.collect()
    assert [model() for model in kept] == [None, None]


def test_many_teachers_are_no_retracing(tmp_path, dataset, elementwise_networks, monkeypatch):
    """TensorFlow warns of code that is traced in most of its calls."""
    warned = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda text, *args: warned.append(text))
    cache = TeacherCache(tmp_path, dataset, Views(1), batch_size=64)
    teachers = [elementwise_networks[0]] * 8
    cache.fill(teachers, [f"teacher_{number}" for number in range(8)])
    assert not warned


def test_test_images_are_cached_as_they_are(tmp_path, dataset, networks):
    views = Views(1, dtype="float32")
    cache = TeacherCache(tmp_path, dataset, views, batch_size=64, split="test")
    cache.fill(networks, NAMES)
    images = data.normalize(dataset.test.images, dataset)
    expected = TeacherEnsemble(networks).logits(images)
    np.testing.assert_allclose(cache.logits(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_top_k_keeps_probabilities(tmp_path, dataset, networks, dtype):
    full, _ = filled(tmp_path / "full", dataset, networks, dtype="float32", count=1)
    views = Views(1, dtype=dtype, top_k=3, temperature=2.0)
    cache = TeacherCache(tmp_path / "few", dataset, views, batch_size=32)
    cache.fill(networks, NAMES)
    found, expected = cache.logits(), full.logits()
    best = np.argsort(-expected, -1)[..., :3]
    # A teacher's outputs keep the probability of its best classes, and so of all others.
    softened = [np.exp(z / 2) / np.exp(z / 2).sum(-1, keepdims=True) for z in (found, expected)]
    kept = [np.take_along_axis(probabilities, best, -1) for probabilities in softened]
    np.testing.assert_allclose(*kept, rtol=5e-3 if dtype == "float16" else 1e-5)
    assert all(len(np.unique(row)) <= 4 for row in found.reshape(-1, 10))
    size = os.path.getsize(tmp_path / "few/a.npy")
    assert cache.bytes_each() == 70 * (3 * 2 + 4 * np.dtype(dtype).itemsize)
    assert 0 < size - cache.bytes_each() < 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "views are 0"),
        ({"count": 1, "dtype": "int8"}, "unknown dtype 'int8'"),
        ({"count": 1, "top_k": 0}, "top_k is 0"),
        ({"count": 1, "temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_bad_views(options, message):
    with pytest.raises(ValueError, match=message):
        Views(**options)


def test_bad_caches(tmp_path, dataset):
    with pytest.raises(ValueError, match="top_k is 10 but digits has 10 classes"):
        TeacherCache(tmp_path, dataset, Views(1, top_k=10))
    with pytest.raises(ValueError, match="one view, without hints"):
        TeacherCache(tmp_path, dataset, Views(2), split="test")
    with pytest.raises(ValueError, match="unknown split 'holdout'"):
        TeacherCache(tmp_path, dataset, Views(1), split="holdout")
    with pytest.raises(ValueError, match="call fill first"):
        _ = TeacherCache(tmp_path, dataset, Views(1)).teachers

"""Several hints at once: maps of every rank, their losses, weights, starts and the cache."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import aekd_tf
from aekd_tf import EnsembleDistiller, Hints, TeacherCache, Views, data
from aekd_tf.terms.hints import attention_loss
from aekd_tf.terms.pooling import pooled
from aekd_tf.terms.regressors import Regressor
from tools.networks import elementwise
from tools.refused import refused

RNG = np.random.default_rng(0)
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
IMAGES = RNG.normal(size=(16, 8, 8, 1)).astype(np.float32)
Y = RNG.integers(0, 3, 16)


def network(seed, width=3):
    """Images to logits, with a map `"map"`, a sequence `"rows"` and a vector `"vector"`."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, padding="same", activation="tanh", name="map")(inputs)
    rows = layers.Reshape((8, 8 * width))(x)
    rows = layers.Conv1D(width, 3, 2, padding="same", name="rows")(rows)
    vector = layers.Dense(width, name="vector")(layers.Flatten()(rows))
    return keras.Model(inputs, layers.Dense(3)(vector))


def build(hints, hint_weight=1.0, teachers=None, **options):
    teachers = teachers or [network(2, 4), network(3, 5)]
    made = EnsembleDistiller(network(1), teachers, hints=hints, hint_weight=hint_weight, **options)
    made.compile(keras.optimizers.SGD(0.1), CE, run_eagerly=True)
    return made


def test_each_has_its_own_loss_weights_and_factor():
    made = build(["map", "rows", "vector"], [2.0, 0.5, 0.0], kd_weight=0.7)
    logs = made.train_on_batch(IMAGES, Y, return_dict=True)
    parts = [0.7 * logs["kd_loss"], 2.0 * logs["hint_0_loss"], 0.5 * logs["hint_1_loss"]]
    assert float(logs["loss"]) == pytest.approx(float(logs["student_loss"] + sum(parts)), rel=1e-5)
    for index in range(3):
        names = [f"hint_{index}_teacher_weight_{m}" for m in range(2)]
        assert float(sum(logs[name] for name in names)) == pytest.approx(1, abs=1e-5)
    assert made.hint_weight == [2.0, 0.5, 0.0]
    made.hint_weight = 3.0
    assert made.hint_weight == [3.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="2 numbers for 3 hints"):
        made.hint_weight = [1.0, 2.0]


def test_one_hint_in_a_list_is_the_hint_alone():
    found = []
    for hints in ("map", Hints("map"), ["map"]):
        made = build(hints)
        logs = made.train_on_batch(IMAGES, Y, return_dict=True)
        found.append([*made.get_weights(), float(logs["hint_loss"])])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_starts_and_weightings_of_their_own():
    weighting = aekd_tf.AdaptiveWeighting(0.7, "full", normalize=True)
    hints = [
        Hints("map", first_epoch=2, weighting=weighting),
        Hints("rows", weighting="as_outputs"),
        Hints("vector", weighting="average"),
    ]
    made = build(hints)
    history = made.fit(IMAGES, Y, epochs=1, batch_size=16, verbose=0).history
    parts = [0.9 * history["kd_loss"][0], history["hint_1_loss"][0], history["hint_2_loss"][0]]
    assert history["loss"][0] == pytest.approx(history["student_loss"][0] + sum(parts), rel=1e-5)
    for m in range(2):
        ours, outputs = (history[f"{p}teacher_weight_{m}"][0] for p in ("hint_1_", ""))
        assert ours == pytest.approx(outputs, abs=1e-6)
        assert history[f"hint_2_teacher_weight_{m}"][0] == 0.5
    config = made.get_config()["hints"]
    again = [keras.saving.deserialize_keras_object(each) for each in config]
    assert [each.get_config() for each in again] == [each.get_config() for each in hints]


def test_a_saved_distiller_has_its_hints(tmp_path):
    made = build([Hints("map", loss="attention"), Hints("vector", activation=None)], [1.0, 2.0])
    made.train_on_batch(IMAGES, Y)
    made.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    for one, two in zip(loaded.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    found, expected = (m.train_on_batch(IMAGES, Y, return_dict=True) for m in (loaded, made))
    for name in ("loss", "hint_0_loss", "hint_1_loss"):
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-5)


def attention(features, shape=None):
    energy = (features.astype(np.float64) ** 2).mean(-1)
    if shape is not None:
        energy = tf.image.resize(energy[..., None], shape).numpy()[..., 0].astype(np.float64)
    flat = energy.reshape(len(energy), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.mark.parametrize("size", [6, 3, 9])
def test_attention_against_numpy(size):
    teacher = RNG.normal(size=(4, size, size, 5)).astype(np.float32)
    student = RNG.normal(size=(4, 6, 6, 2)).astype(np.float32)
    shape = None if size == 6 else (size, size)
    expected = ((attention(teacher) - attention(student, shape)) ** 2).sum(1)
    np.testing.assert_allclose(attention_loss(teacher, student), expected, rtol=1e-4)


def test_attention_of_sequences_and_of_vectors():
    maps = RNG.normal(size=(4, 6, 5)).astype(np.float32), RNG.normal(size=(4, 6, 2))
    expected = ((attention(maps[0]) - attention(maps[1])) ** 2).sum(1)
    np.testing.assert_allclose(attention_loss(*maps), expected, rtol=1e-4)
    assert attention_loss(maps[0], maps[1][:, :3]).shape == (4,)
    with pytest.raises(ValueError, match="attention compares maps with positions"):
        build(Hints("vector", loss="attention"))


@pytest.mark.parametrize("loss", [keras.losses.MeanAbsoluteError(), "cosine"])
def test_another_loss_between_maps(loss):
    made = build(Hints("vector", loss=loss, activation=None))
    before = [weight.numpy() for weight in made.student.trainable_weights[:2]]
    logs = made.train_on_batch(IMAGES, Y, return_dict=True)
    assert float(logs["hint_loss"]) > 0
    moved = zip(before, made.student.trainable_weights[:2], strict=True)
    assert all(np.abs(weight.numpy() - value).max() > 0 for value, weight in moved)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((8, 3), (8, 5)), ((8, 3), (4, 5)), ((4, 3), (8, 5)), ((8, 3), (6, 2)), ((7,), (4,))],
)
@pytest.mark.parametrize("activation", ["relu", None])
def test_regressors_of_sequences_and_vectors(student, teacher, activation):
    regressor = Regressor((None, *student), (None, *teacher), activation)
    found = regressor(RNG.normal(size=(5, *student)).astype(np.float32), training=True)
    assert found.shape == (5, *teacher)
    assert (found.numpy().min() >= 0) == (activation == "relu")


def test_maps_of_different_ranks_are_refused():
    with pytest.raises(ValueError, match="cannot be aligned"):
        build(Hints("vector", ["map", "map"]))
    with pytest.raises(ValueError, match="activation is 'rellu'"):
        Hints("map", activation="rellu")
    with refused("unknown distillation_loss 'l2'"):
        Hints("map", loss="l2")


def test_pooling_of_sequences():
    maps = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(pooled(maps, 2), maps.reshape(2, 3, 2, 3).mean(2), rtol=1e-5)


def test_cached_maps_of_several_hints_are_the_teachers_own(tmp_path):
    digits = data.load("digits", train_examples=40)
    teachers = [elementwise(seed) for seed in (1, 2)]
    hints = [Hints("stage2"), Hints("stage2", pooling=2)]
    cache = TeacherCache(tmp_path, digits, Views(count=1, dtype="float32"), 20, hints=hints)
    assert cache.fill(teachers, ["a", "b"]) == 2
    batch = cache.read(tf.constant(0), tf.range(5))
    assert [part.shape[1] for part in batch["teacher_logits"][None]] == [2]
    shapes = [
        tuple(part.shape[1:]) for part in cache.read(0, tf.range(5), True)["teacher_features"]
    ]
    assert shapes == [(4, 4, 1), (4, 4, 1), (2, 2, 1), (2, 2, 1)]
    assert cache.teachers.feature_shapes == [list(shape) for shape in shapes]
    found = []
    for cached in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1))
        maps = layers.Conv2D(2, 3, 2, padding="same", name="stage2")(inputs)
        student = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(maps)))
        given = cache.teachers if cached else teachers
        made = EnsembleDistiller(student, given, hints=hints, hint_weight=[1.0, 2.0])
        made.compile(keras.optimizers.SGD(0.1), CE, run_eagerly=True)
        views = {"views": 1, "view_seed": cache.views.seed}
        more = {"teacher_outputs": lambda v, i: cache.read(v, i, hints=True)} if cached else {}
        batches = data.training_pipeline(digits, batch_size=20, epochs=1, seed=1, **views, **more)
        made.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)
        found.append(made.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(("head", "loss"), [("labels", "binary_kl"), ("regression", "mse")])
def test_cached_outputs_of_other_heads(tmp_path, head, loss):
    """Dense outputs `[B, 4, 2]`; a step from the cache is the step by the teachers."""

    def dense(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 1))
        x = layers.Reshape((4, 16))(inputs)
        return keras.Model(inputs, layers.Dense(2)(x))

    labels = RNG.integers(0, 2, (20, 4, 2)).astype(np.float32)
    images = RNG.integers(0, 255, (20, 8, 8, 1)).astype(np.uint8)
    split = data.Split(images, labels)
    mine = data.Dataset(
        "mine", 2, split, split, split, mean=(127.0,), std=(60.0,), crop_padding=0, flip=False
    )
    teachers = [dense(1), dense(2)]
    cache = TeacherCache(tmp_path, mine, Views(count=1, dtype="float32"), 10, head=head)
    assert cache.fill(teachers, ["a", "b"]) == 2
    assert cache.fill(teachers, ["a", "b"]) == 0
    assert cache.read(tf.constant(0), tf.range(3))["teacher_logits"].shape == (3, 2, 4, 2)
    found = []
    for cached in (False, True):
        made = EnsembleDistiller(
            dense(0), cache.teachers if cached else teachers, distillation_loss=loss
        )
        compiled = keras.losses.MeanSquaredError()
        if head == "labels":
            compiled = keras.losses.BinaryCrossentropy(from_logits=True)
        made.compile(keras.optimizers.SGD(0.1), compiled, run_eagerly=True)
        more = {"teacher_outputs": cache.read} if cached else {}
        options = {"batch_size": 10, "epochs": 1, "seed": 1, "views": 1, "view_seed": 0}
        batches = data.training_pipeline(mine, **options, **more)
        made.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)
        found.append(made.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)

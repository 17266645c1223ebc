import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from aekd_tf import EnsembleDistiller, TeacherAdapter, TeacherEnsemble, models
from tools.small_runs import small_runs

EXAMPLE = Path(__file__).parents[2] / "examples" / "foreign_teachers.py"


def dense(seed, classes=4, size=(6, 6), softmax=False):
    keras.utils.set_random_seed(seed)
    head = keras.layers.Dense(classes, activation="softmax" if softmax else None)
    return keras.Sequential([keras.Input((*size, 1)), keras.layers.Flatten(), head])


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype(np.float32)


def test_probabilities_become_logits(images):
    model = dense(1, softmax=True)
    logits = TeacherAdapter(model, outputs="probabilities")(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-6)
    certain = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    extreme = TeacherAdapter(certain, outputs="probabilities")(np.array([[1000.0, 0.0, -1000.0]]))
    assert np.isfinite(extreme).all()


def test_class_map_reorders_and_selects(images):
    model = dense(1)
    outputs = TeacherAdapter(model, class_map=[3, 0])(images)
    np.testing.assert_array_equal(outputs, model(images).numpy()[:, [3, 0]])


def test_input_size_and_preprocessing(images):
    model = dense(1, size=(12, 12))
    adapted = TeacherAdapter(
        model, input_size=(12, 12), preprocessing=keras.layers.Rescaling(3.0, 1.0)
    )
    larger = keras.ops.image.resize(images, (12, 12))
    np.testing.assert_allclose(adapted(images), model(larger * 3 + 1), rtol=1e-4, atol=1e-4)


def test_saved_with_its_distiller(images, tmp_path):
    teachers = [
        TeacherAdapter(
            dense(1, size=(12, 12), softmax=True),
            input_size=(12, 12),
            preprocessing=keras.layers.Rescaling(3.0),
            outputs="probabilities",
            class_map=[1, 0, 3, 2],
        ),
        dense(2),
    ]
    distiller = EnsembleDistiller(dense(3), teachers)
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    distiller.fit(images, np.arange(5) % 4, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_allclose(
        loaded.teachers.logits(images), distiller.teachers.logits(images), rtol=1e-6
    )


def test_hint_inside_an_adapted_teacher():
    with small_runs():
        network, student = (models.create("resnet8", 3, (size, size, 1)) for size in (16, 8))
    teacher = TeacherAdapter(network, input_size=(16, 16))
    distiller = EnsembleDistiller(student, [teacher], hints="stage2", hint_weight=1.0)
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    logs = distiller.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0).history
    assert np.isfinite(logs["hint_loss"]).all()


def test_probabilities_are_detected():
    with pytest.raises(ValueError, match=r"ends in a softmax .*outputs='probabilities'"):
        TeacherEnsemble([dense(1, softmax=True)])
    with pytest.raises(ValueError, match="ends in a softmax"):
        TeacherEnsemble([TeacherAdapter(dense(1, softmax=True))])
    inputs = keras.Input((6, 6, 1))
    nested = keras.Model(inputs, dense(1, softmax=True)(inputs))
    with pytest.raises(ValueError, match="ends in a softmax"):
        TeacherEnsemble([nested])
    TeacherEnsemble([TeacherAdapter(dense(1, softmax=True), outputs="probabilities")])


def test_probabilities_of_a_subclassed_teacher_show_in_its_outputs(images):
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = dense(1)

        def call(self, inputs):
            return keras.ops.softmax(self.inner(inputs))

    with pytest.raises(ValueError, match=r"teacher 1 .* ends in a softmax"):
        TeacherEnsemble([dense(2), Hidden()]).evaluate(images, np.zeros(5, int))


def test_teachers_of_different_class_counts(images):
    ensemble = TeacherEnsemble([dense(1), dense(2, classes=5)])
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(5, 5\)"):
        ensemble.logits(images)
    mended = TeacherEnsemble([dense(1), TeacherAdapter(dense(2, classes=5), class_map=range(4))])
    assert mended.logits(images).shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": "odds"}, "unknown outputs 'odds': choose one of logits, probabilities"),
        ({"class_map": [0, 0, 1]}, "at most once"),
        ({"class_map": [-1, 0]}, "at most once"),
        ({"class_map": []}, "at most once"),
    ],
)
def test_bad_declarations(options, message):
    with pytest.raises(ValueError, match=message):
        TeacherAdapter(dense(1), **options)


def test_class_map_beyond_the_outputs(images):
    with pytest.raises(ValueError, match=r"names output 7 .* which has 4"):
        TeacherAdapter(dense(1), class_map=[0, 7])(images)
    with pytest.raises(ValueError, match="model is a str"):
        TeacherAdapter("resnet8")


def test_example_of_foreign_teachers(capsys):
    scores = runpy.run_path(str(EXAMPLE))["main"](epochs=2)
    assert min(scores.values()) > 0.5  # a wrong map, scale or size would leave chance
    assert "student" in capsys.readouterr().out

"""Models that cannot be student or teacher, or that a file would not bring back."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

import aekd_tf
from aekd_tf import EnsembleDistiller, TeacherAdapter, TeacherEnsemble
from tools import forked
from tools.refused import CROSSENTROPY, X, Y, distiller, net, passes, refused, two_teachers

LAYERS = keras.layers


def headed(backbone, seed=0):
    """A model of its own head on a backbone."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    return keras.Model(inputs, LAYERS.Dense(3)(backbone(inputs)))


def normalized_by(norm, seed=0):
    keras.utils.set_random_seed(seed)
    hidden = LAYERS.Dense(5, name="hidden")
    return keras.Sequential([keras.Input((4,)), hidden, norm, LAYERS.Dense(3)])


class Wrapped(keras.Model):
    """A subclass that calls another model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs):
        return self.model(inputs)


def shared_layer():
    student = net(1, name="pupil")
    return student, headed(lambda x: student.layers[0](x)), student.layers[0].kernel


def shared_backbone():
    backbone = net(1, classes=5)
    return headed(backbone, 1), headed(backbone, 2), backbone.layers[0].kernel


def shared_statistics():
    norm = LAYERS.BatchNormalization(center=False, scale=False)
    return normalized_by(norm, 1), normalized_by(norm, 2), norm.moving_mean


def student_in_an_adapter():
    student = net(1)
    return student, TeacherAdapter(student), student.layers[0].kernel


def student_in_a_subclass():
    student = net(1)
    return student, Wrapped(student), student.layers[0].kernel


def on_the_same_tensors():
    student = net(1)
    return student, keras.Model(student.inputs, student.outputs), student.layers[0].kernel


SHARED = [
    *(shared_layer, shared_backbone, shared_statistics, student_in_an_adapter),
    *(student_in_a_subclass, on_the_same_tensors),
]


@pytest.mark.parametrize("make", SHARED, ids=lambda make: make.__name__)
def test_a_teacher_that_training_would_change(make):
    student, teacher, variable = make()
    named = f"student {student.name} shares the variable {variable.path} with teacher 1 ("
    with refused(named, teacher.name, "trainable = False"):
        EnsembleDistiller(student, [two_teachers()[0], teacher])


def test_layers_that_are_unfrozen_later():
    backbone = net(1, classes=5)
    backbone.trainable = False
    given = distiller(headed(backbone, 1), [headed(backbone, 2)])
    given.train_on_batch(X, Y)
    backbone.trainable = True
    with refused("shares the variable", "freeze"):
        given.fit(X, Y, verbose=0)


UNBUILT = {
    "Sequential": lambda: keras.Sequential([LAYERS.Dense(3, name="never")]),
    "subclass": lambda: Wrapped(LAYERS.Dense(3, name="never")),
    "in a subclass": lambda: Wrapped(keras.Sequential([LAYERS.Dense(3, name="never")])),
    "in an adapter": lambda: TeacherAdapter(keras.Sequential([LAYERS.Dense(3, name="never")])),
    "attention": lambda: Wrapped(LAYERS.MultiHeadAttention(2, 2, name="never")),
    "norm": lambda: Wrapped(LAYERS.BatchNormalization(name="never")),
    "recurrent": lambda: Wrapped(LAYERS.LSTM(3, name="never")),
    "convolution": lambda: Wrapped(LAYERS.SeparableConv2D(3, 3, name="never")),
}


@pytest.mark.parametrize("how", UNBUILT)
def test_a_teacher_that_was_never_built(how):
    teacher = UNBUILT[how]()
    with refused(f"teacher 1 ({teacher.name}) was never built", "never", "load_model"):
        TeacherEnsemble([two_teachers()[0], teacher])


STUDENTS = {
    "NoneType": None,
    "str": "resnet8",
    "list": [net(1)],
    "Dense": LAYERS.Dense(3),
    "function": net,
    "TeacherEnsemble": TeacherEnsemble(two_teachers()),
}


@pytest.mark.parametrize("kind", STUDENTS)
def test_what_is_no_student(kind):
    with refused(f"student is a {kind}: give a keras.Model", error=TypeError):
        EnsembleDistiller(STUDENTS[kind], two_teachers())
    with refused("student is a list", "the first argument", error=TypeError):
        EnsembleDistiller(two_teachers(), net(1))  # swapped


@pytest.mark.parametrize("teachers", [None, "resnet8", 3, LAYERS.Dense(3), b"resnet8"])
def test_what_are_no_teachers(teachers):
    with refused(f"teachers is a {type(teachers).__name__}: give a list", error=TypeError):
        EnsembleDistiller(net(7), teachers)


def test_teachers_in_other_forms():
    models = two_teachers()
    for given, count in ((models[0], 1), ((model for model in models), 2), (tuple(models), 2)):
        assert list(EnsembleDistiller(net(7), given).teachers) == models[:count]
        assert list(TeacherEnsemble(models if count == 2 else models[0])) == models[:count]


def structured(kind, name):
    inputs = keras.Input((4,))
    a, b = LAYERS.Dense(3)(inputs), LAYERS.Dense(2)(inputs)
    outputs = {
        "dict": {"classes": a, "boxes": b},
        "dict of one": {"classes": a},
        "list": [a, b],
        "tuple": (a, b),
    }
    return keras.Model(inputs, outputs[kind], name=name)


@pytest.mark.parametrize("kind", ["dict", "dict of one", "list", "tuple"])
def test_outputs_that_are_structures(kind):
    names = "classes" if "dict" in kind else ", 3), "
    advice = "name the one to distill"
    with refused("student fork gives several outputs", names, advice):
        passes(structured(kind, "fork"))
    for teacher in (structured(kind, "fork"), Wrapped(structured(kind, "inner"))):
        with refused(f"teacher 1 {teacher.name} gives several outputs", names, advice):
            passes(None, [two_teachers()[0], teacher])


def test_a_list_of_one_output_is_one_output():
    inputs = keras.Input((4,))
    passes(None, [keras.Model(inputs, [LAYERS.Dense(3)(inputs)])])


def of_images(size, name):
    inputs = keras.Input((size, size, 1))
    return keras.Model(inputs, LAYERS.Dense(3)(LAYERS.Flatten()(inputs)), name=name)


def test_teachers_of_another_input_size():
    images = np.zeros((8, 8, 8, 1), np.float32)
    asked = ("teacher 1 (large) cannot take the student's inputs (8, 8, 1)", "TeacherAdapter(")
    with refused(*asked, "input_size="):
        passes(of_images(8, "s"), [of_images(8, "a"), of_images(12, "large")], x=images, y=Y[:8])
    with refused("teacher 0 (wide) cannot take the student's inputs (4,)", "TeacherAdapter"):
        passes(None, [net(1, inputs=6, name="wide")])
    resized = TeacherAdapter(of_images(12, "large"), input_size=(12, 12))
    passes(of_images(8, "s"), [resized], x=images, y=Y[:8])


@pytest.mark.parametrize("hints", [[3], 3, {"student": "a"}])
def test_hints_of_a_wrong_kind(hints):
    wrong = hints[0] if isinstance(hints, list) else hints
    with refused(f"hints is a {type(wrong).__name__}: give a layer's name", error=TypeError):
        EnsembleDistiller(net(7), two_teachers(), hints=hints, hint_weight=1.0)


@pytest.fixture(scope="module")
def trained():
    """A distiller after a step; its teachers were compiled and trained too."""
    teachers = [net(seed) for seed in (1, 2)]
    for teacher in teachers:
        teacher.compile("adam", CROSSENTROPY, run_eagerly=True)
        teacher.train_on_batch(X, Y)
    given = distiller(net(7), teachers)
    given.train_on_batch(X, Y)
    return given


def test_hdf5_cannot_hold_the_teachers(trained, tmp_path):
    for name in ("a.h5", "a.hdf5"):
        with refused(f"{name} is an HDF5 file", ".keras", "the student alone"):
            trained.save(tmp_path / name)
        assert not (tmp_path / name).exists()
    with refused("is an HDF5 file"):
        checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "d.h5"))
        trained.fit(X, Y, batch_size=24, verbose=0, callbacks=[checkpoint])
    trained.save_weights(tmp_path / "student.weights.h5")


def test_an_hdf5_file_made_past_our_save(tmp_path):
    """Keras's function for old files calls no method of the model."""
    keras.models.save_model(distiller(net(7)), str(tmp_path / "a.h5"))
    known = {"EnsembleDistiller": EnsembleDistiller}
    loaded = keras.models.load_model(tmp_path / "a.h5", custom_objects=known, compile=False)
    with refused("teachers have no trained weights"):
        assert loaded.teachers


CLONES = {
    "clone_model": keras.models.clone_model,
    "from_config": lambda model: type(model).from_config(model.get_config()),
    "deserialized": lambda model: keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
    ),
}


@pytest.mark.parametrize("how", CLONES)
def test_a_configuration_has_no_weights(trained, how):
    clone = CLONES[how](trained)
    clone.build((None, 4))
    clone.set_weights(trained.get_weights())
    clone.compile("sgd", CROSSENTROPY, run_eagerly=True)
    for use in (
        lambda: clone.teachers,
        lambda: clone.fit(X, Y, verbose=0),
        lambda: clone.train_on_batch(X, Y),
    ):
        with refused("teachers have no trained weights", ".keras file"):
            use()
    np.testing.assert_array_equal(clone(X), trained(X))


def test_a_keras_file_brings_everything_back_and_no_optimizer_of_a_teacher(trained, tmp_path):
    path = tmp_path / "a.keras"
    trained.save(path)
    loaded = keras.models.load_model(path)
    for found, expected in zip(loaded.teachers, trained.teachers, strict=True):
        for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(teacher.optimizer is not None for teacher in trained.teachers)
    with zipfile.ZipFile(path) as archive:
        files = [name for name in archive.namelist() if "teacher_" in name]
        assert len(files) == 2
        for name in files:
            keys, sizes = [], []

            def collect(key, item, keys=keys, sizes=sizes):
                keys.append(key)
                sizes.extend([item.size] if isinstance(item, h5py.Dataset) else [])

            with archive.open(name) as file, h5py.File(file) as weights:
                weights.visititems(collect)
            assert not [key for key in keys if "optimizer" in key]
            assert sorted(sizes) == [3, 12]  # a bias and a kernel


def plain(images):
    return images / 2


@keras.saving.register_keras_serializable("tests")
def registered(images):
    return images / 2 - 1


@keras.saving.register_keras_serializable("tests")
class Halving(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


UNREGISTERED = {
    "lambda": lambda images: images / 2,
    "plain": plain,
    "preprocess_input": keras.applications.mobilenet_v2.preprocess_input,
}


@pytest.mark.parametrize("name", UNREGISTERED)
def test_a_function_that_keras_could_not_find_again(name, tmp_path):
    adapter = TeacherAdapter(net(1), preprocessing=UNREGISTERED[name], name="odd")
    given = distiller(net(7), [adapter])
    given.train_on_batch(X, Y)
    given.save_weights(tmp_path / "a.weights.h5")
    for save in (given.save, adapter.save):
        with refused("TeacherAdapter odd cannot be saved", name, "register_keras_serializable"):
            save(tmp_path / "a.keras")
        assert not (tmp_path / "a.keras").exists()


@pytest.mark.parametrize(
    "how", [registered, Halving(), LAYERS.Rescaling(3.0)], ids=["function", "own", "layer"]
)
def test_preprocessing_that_is_found_again(how, tmp_path):
    given = distiller(net(7), [TeacherAdapter(net(1), preprocessing=how)])
    given.train_on_batch(X, Y)
    given.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.teachers.logits(X), given.teachers.logits(X))
    # Two functions of one name are told apart: what is loaded is the one that was saved.
    if how is registered:
        assert loaded.teachers[0].preprocessing is registered


def test_the_package_alone_loads_an_adapter(tmp_path):
    given = distiller(net(7), [TeacherAdapter(net(1), preprocessing=LAYERS.Rescaling(3.0))])
    given.train_on_batch(X, Y)
    given.save(tmp_path / "a.keras")
    printed = forked.output(
        "import aekd_tf, keras\n"
        f"model = keras.models.load_model({str(tmp_path / 'a.keras')!r})\n"
        "print(type(model).__name__, type(model.teachers[0]).__name__)"
    )
    assert printed.split() == ["EnsembleDistiller", "TeacherAdapter"]


def test_public_names_are_the_classes():
    assert aekd_tf.TeacherEnsemble is TeacherEnsemble

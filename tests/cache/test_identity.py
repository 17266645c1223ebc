"""A teacher's digest changes with all that its outputs depend on, and with nothing else."""

import types

import keras
import numpy as np
import pytest

from aekd_tf import TeacherAdapter, TeacherCache, Views, data
from aekd_tf.cache.store import CacheError
from aekd_tf.teachers.identity import teacher_digest
from tools.refused import refused

LAYERS = keras.layers
APPLICATIONS = keras.applications
rng = np.random.default_rng(0)
WEIGHTS = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 4), (4,), (4, 4), (4,))]


def graph(*tail, first="relu", name=None, called=None, **options):
    """Two dense layers, then functions or layers, always with the same weights."""
    inputs = keras.Input((4,))
    tensor = LAYERS.Dense(4, activation=first, name=called, **options)(inputs)
    tensor = LAYERS.Dense(4)(tensor)
    for step in tail:
        tensor = step(tensor)
    model = keras.Model(inputs, tensor, name=name)
    model.set_weights(WEIGHTS)
    return model


class Scaled(keras.Model):
    def __init__(self, factor):
        super().__init__()
        self.inner = graph()
        self.factor = factor

    def call(self, inputs):
        return self.factor * self.inner(inputs)


class Inside(keras.Model):
    """A subclass whose configuration does not show its layers."""

    def __init__(self, make):
        super().__init__()
        self.inner = graph()
        self.last = make()

    def call(self, inputs):
        return self.last(self.inner(inputs))


class Listed(Scaled):
    def call(self, inputs):
        return self.factor[0] * self.inner(inputs)


class Shifted(Scaled):
    def call(self, inputs):
        return self.factor + self.inner(inputs)


def function(source, module="mine", **names):
    """A function called `prepare`, of some code, in some module."""
    space = {"__name__": module, **names}
    exec(source, space)
    return space["prepare"]


def closure(value):
    def prepare(images):
        return images * value

    return prepare


def closure_of_layer(layer):
    def prepare(images):
        return layer(images)

    return prepare


def adapted(preprocessing=None, **options):
    return TeacherAdapter(graph(), preprocessing=preprocessing, **options)


HALF = "def prepare(images):\n    return images / 2\n"
GLOBAL = "def prepare(images):\n    return images * FACTOR\n"
HELPER = GLOBAL.replace("prepare", "half") + "def prepare(images):\n    return half(images)\n"
VARIANTS = {
    "plain": graph,
    "activation": lambda: graph(first="tanh"),
    "a layer called relu": lambda: graph(LAYERS.ReLU(max_value=1.0, name="relu")),
    "that with tanh": lambda: graph(LAYERS.ReLU(max_value=1.0, name="relu"), first="tanh"),
    "half precision": lambda: graph(dtype="mixed_float16"),
    "bfloat16": lambda: graph(dtype="mixed_bfloat16"),
    "another activation": lambda: graph(first=keras.activations.gelu),
    "rescaled": lambda: graph(LAYERS.Rescaling(0.5)),
    "rescaled otherwise": lambda: graph(LAYERS.Rescaling(0.25)),
    "shifted": lambda: graph(LAYERS.Rescaling(0.5, offset=1.0)),
    "times 3": lambda: graph(lambda x: x * 3),
    "times 4": lambda: graph(lambda x: x * 4),
    "plus 3": lambda: graph(lambda x: x + 3),
    "one order": lambda: graph(LAYERS.Activation("tanh"), LAYERS.Rescaling(0.5)),
    "the other order": lambda: graph(LAYERS.Rescaling(0.5), LAYERS.Activation("tanh")),
    "an attribute": lambda: Scaled(2.0),
    "another attribute": lambda: Scaled(3.0),
    "another call": lambda: Shifted(2.0),
    "a list": lambda: Listed([2.0, 1.0]),
    "another list": lambda: Listed([3.0, 1.0]),
    "an array": lambda: Listed(np.array([2.0, 1.0], np.float32)),
    "another array": lambda: Listed(np.array([3.0, 1.0], np.float32)),
    "a layer inside": lambda: Inside(lambda: LAYERS.Rescaling(0.5)),
    "another layer inside": lambda: Inside(lambda: LAYERS.Rescaling(0.25)),
    "adapted": adapted,
    "class map": lambda: adapted(class_map=[1, 0, 2, 3]),
    "mobilenet": lambda: adapted(APPLICATIONS.mobilenet_v2.preprocess_input),
    "resnet": lambda: adapted(APPLICATIONS.resnet50.preprocess_input),
    "own function": lambda: adapted(function(HALF)),
    "of another module": lambda: adapted(function(HALF, "theirs")),
    "of other code": lambda: adapted(function(HALF.replace("/", "*"))),
    "of another constant": lambda: adapted(function(HALF.replace("2", "4"))),
    "of another default": lambda: adapted(function("def prepare(x, by=2):\n    return x / by\n")),
    "of a further default": lambda: adapted(function("def prepare(x, by=3):\n    return x / by\n")),
    "global": lambda: adapted(function(GLOBAL, FACTOR=2)),
    "another global": lambda: adapted(function(GLOBAL, FACTOR=3)),
    "helper": lambda: adapted(function(HELPER, FACTOR=2)),
    "another helper": lambda: adapted(function(HELPER, FACTOR=3)),
    "closure": lambda: adapted(closure(2.0)),
    "closure of another value": lambda: adapted(closure(3.0)),
    "closure of an array": lambda: adapted(closure(np.array([1.0, 2.0], np.float32))),
    "closure of another array": lambda: adapted(closure(np.array([1.0, 3.0], np.float32))),
    "closure of a layer": lambda: adapted(closure_of_layer(LAYERS.Rescaling(2.0))),
    "closure of another layer": lambda: adapted(closure_of_layer(LAYERS.Rescaling(3.0))),
    "lambda layer": lambda: graph(LAYERS.Lambda(lambda x: x * 5)),
    "another lambda layer": lambda: graph(LAYERS.Lambda(lambda x: x * 6)),
}


@pytest.fixture(scope="module")
def digests():
    return {name: teacher_digest(make()) for name, make in VARIANTS.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_has_a_digest_of_its_own(digests, name):
    same = [other for other, digest in digests.items() if digest == digests[name]]
    assert same == [name]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_again_has_the_same_digest(digests, name):
    """Keras numbers the layers on, so that all names differ."""
    assert teacher_digest(VARIANTS[name]()) == digests[name]


def test_weights_count(digests):
    model = graph()
    model.layers[-1].bias.assign_add([0, 0, 0, 1e-6])
    assert teacher_digest(model) != digests["plain"]


@pytest.mark.parametrize("called", ["first", "linear", "tanh"])
def test_names_and_training_do_not_count(digests, called):
    """Also if a layer is called what another one's activation is."""
    model = graph(name="renamed", called=called)
    model.compile("adam", "mse", metrics=["mae"])
    assert teacher_digest(model) == digests["plain"]
    model.optimizer.build(model.trainable_variables)
    assert teacher_digest(model) == digests["plain"]


SAVED = ["plain", "activation", "rescaled", "times 3", "one order", "class map"]


@pytest.mark.parametrize("name", SAVED)
def test_a_file_has_the_digest_of_its_model(digests, name, tmp_path):
    model = VARIANTS[name]()
    model(np.zeros((2, 4), np.float32))
    model.save(tmp_path / "a.keras")
    assert teacher_digest(keras.models.load_model(tmp_path / "a.keras")) == digests[name]


@pytest.fixture(scope="module")
def dataset():
    images = rng.integers(0, 16, (20, 2, 2, 1)).astype(np.uint8)
    split = data.Split(images, np.arange(20) % 4)
    return data.Dataset(
        name="mine",
        num_classes=4,
        train=split,
        validation=split,
        test=split,
        mean=(0.0,),
        std=(16.0,),
        crop_padding=0,
        flip=False,
    )


def of_images(*tail):
    inputs = keras.Input((2, 2, 1))
    return keras.Model(inputs, graph(*tail)(LAYERS.Flatten()(inputs)))


def test_a_cache_never_serves_another_graph(dataset, tmp_path):
    cache = TeacherCache(tmp_path, dataset, Views(1, dtype="float32"))
    first = of_images()
    assert cache.fill([first], ["a"]) == 1
    expected = first.predict(dataset.train.images / 16, verbose=0)
    np.testing.assert_allclose(cache.logits(0)[0], expected, rtol=1e-5, atol=1e-6)
    again = TeacherCache(tmp_path, dataset, Views(1, dtype="float32"))
    assert again.fill([of_images()], ["a"]) == 0
    with pytest.raises(CacheError, match="is of other teacher"):
        again.fill([of_images(lambda x: x * 0.2)], ["a"])


@pytest.mark.parametrize(
    "given",
    [WEIGHTS[0], [WEIGHTS[0], WEIGHTS[1]], "digits", None, types.SimpleNamespace(train=None)],
    ids=lambda given: type(given).__name__,
)
def test_a_cache_of_something_else(given, tmp_path):
    kind = type(given).__name__
    with refused(f"not a {kind}", "(inputs, labels)", "data.Dataset", error=TypeError):
        TeacherCache(tmp_path, given, Views(1))


def test_one_name_twice(dataset, tmp_path):
    cache = TeacherCache(tmp_path, dataset, Views(1))
    with refused("names holds 'a' twice", "a name of its own"):
        cache.fill([of_images(), of_images()], ["a", "a"])
    assert list(tmp_path.glob("a.*")) == []

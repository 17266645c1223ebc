"""Outputs of other shapes: dense, several, with other inputs, of specialists."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aekd_tf import EnsembleDistiller, TeacherAdapter, TeacherEnsemble
from aekd_tf.outputs import of_output
from tools import losses as truth
from tools.refused import refused

RNG = np.random.default_rng(0)
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = RNG.normal(size=(12, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 12)


def linear(seed, outputs=3):
    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(outputs, kernel_initializer=normal)(inputs))


def several(seed, kind=dict):
    """Two heads: `"logits"` of 3 classes, and `"value"`."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    logits = layers.Dense(3, name="logits")(inputs)
    value = layers.Dense(1, name="value")(inputs)
    outputs = {"value": value, "logits": logits} if kind is dict else kind([value, logits])
    return keras.Model(inputs, outputs)


def compiled(student, teachers, loss=CE, **options):
    made = EnsembleDistiller(student, teachers, weighting="average", **options)
    made.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return made


def test_keras_own_mask_counts():
    """Tokens that an Embedding masks have no part, whatever the outputs there."""

    def tagger(seed):
        keras.utils.set_random_seed(seed)
        normal = keras.initializers.RandomNormal(stddev=3.0, seed=seed)
        inputs = keras.Input((6,), dtype="int32")
        x = layers.Embedding(9, 5, mask_zero=True, embeddings_initializer=normal)(inputs)
        return keras.Model(inputs, layers.Dense(4)(x))

    x = RNG.integers(0, 9, (8, 6))
    x[:, 0] = 1
    y = RNG.integers(0, 4, (8, 6))
    student, teachers = tagger(0), [tagger(1), tagger(2)]
    z, targets = student(x).numpy(), np.stack([teacher(x).numpy() for teacher in teachers])
    logs = compiled(student, teachers).train_on_batch(x, y, return_dict=True)
    mask = x > 0
    each = np.stack([truth.kl(target, z, 4.0) for target in targets])
    expected = ((each * mask).sum(-1) / mask.sum(-1)).mean()
    assert float(logs["kd_loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [dict, list, tuple])
@pytest.mark.parametrize("output", ["logits", 1])
def test_one_of_several_outputs(kind, output):
    values = RNG.normal(size=(12, 1)).astype(np.float32)
    student, teachers = several(0, kind), [TeacherAdapter(several(1), output="logits"), linear(2)]
    labels = {"value": values, "logits": Y} if kind is dict else [values, Y]
    losses = {"value": "mse", "logits": CE} if kind is dict else ["mse", CE]
    z, value = (student(X)[key] for key in (("logits", "value") if kind is dict else (1, 0)))
    targets = np.stack([several(1)(X)["logits"].numpy(), linear(2)(X).numpy()])
    made = compiled(student, teachers, losses, output=output)
    logs = made.train_on_batch(X, labels, return_dict=True)
    expected = np.mean([truth.kl(target, z.numpy(), 4.0) for target in targets])
    assert float(logs["kd_loss"]) == pytest.approx(expected, rel=1e-5)
    own = ((value.numpy() - values) ** 2).mean() + float(CE(Y, z))
    assert float(logs["student_loss"]) == pytest.approx(own, rel=1e-5)
    made.fit(X, labels, epochs=1, verbose=0, validation_data=(X, labels))


def test_outputs_that_are_not_named_or_not_there():
    with refused("student", "gives several outputs (value, logits)", "output="):
        compiled(several(0), [linear(1)])
    with refused("has no output 'logit'", "value, logits"):
        compiled(several(0), [linear(1)], output="logit")
    with refused("teacher", "gives several outputs (value, logits)", "TeacherAdapter"):
        compiled(linear(0), [several(1)]).train_on_batch(X, Y)


def test_only_the_distilled_outputs_loss_is_looked_at():
    labels = {"value": RNG.integers(0, 2, (12, 1)).astype(np.float32), "logits": Y}
    losses = {"value": "binary_crossentropy", "logits": CE}
    made = compiled(several(0), [linear(1)], losses, output="logits")
    made.train_on_batch(X, labels)
    losses["logits"] = "sparse_categorical_crossentropy"
    with refused("sparse_categorical_crossentropy", "takes probabilities"):
        compiled(several(0), [linear(1)], losses, output="logits").train_on_batch(X, labels)


def test_a_saved_distiller_of_one_output_trains_on(tmp_path):
    teachers = [TeacherAdapter(several(1), output="logits", class_map=[2, None, 0])]
    losses = {"value": "mse", "logits": CE}
    made = compiled(several(0), teachers, losses, output="logits")
    labels = {"value": np.zeros((12, 1)), "logits": Y}
    made.train_on_batch(X, labels)
    made.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.get_config()["output"] == "logits"
    found, expected = (m.train_on_batch(X, labels, return_dict=True) for m in (loaded, made))
    assert float(found["kd_loss"]) == pytest.approx(float(expected["kd_loss"]), rel=1e-5)


def test_inputs_of_another_key():
    inputs = {"image": keras.Input((4,), name="image"), "size": keras.Input((2,), name="size")}
    keras.utils.set_random_seed(0)
    x = layers.Dense(3)(layers.Concatenate()([inputs["image"], inputs["size"]]))
    student = keras.Model(inputs, x)
    given = {"image": X, "size": np.ones((12, 2), np.float32)}
    teachers = [TeacherAdapter(linear(1), inputs="image")]
    made = compiled(student, teachers)
    made.train_on_batch(given, Y)
    np.testing.assert_allclose(made.teachers.logits(given)[0], linear(1)(X), rtol=1e-5)
    with refused("takes the input 'picture'", "image, size"):
        compiled(student, [TeacherAdapter(linear(1), inputs="picture")]).train_on_batch(given, Y)


@pytest.mark.parametrize("loss", ["kl", "dkd"])
def test_a_specialist_teaches_the_classes_that_it_knows(loss):
    """Its loss and gradient are those of the classes that it knows, as if there were no other."""
    specialist = TeacherAdapter(linear(1, 2), class_map=[1, None, 0])
    student = linear(0)
    y = np.array([0, 2] * 6)
    made = compiled(student, [specialist, linear(2)], distillation_loss=loss, kd_weight=1.0)
    z = student(X).numpy().astype(np.float64)
    known = linear(1, 2)(X).numpy()[:, [1, 0]].astype(np.float64)
    other = linear(2)(X).numpy().astype(np.float64)
    function = truth.kl if loss == "kl" else truth.dkd

    def kd(z):
        first = function(known, z[:, [0, 2]], 4.0, y // 2)
        return (first.mean() + function(other, z, 4.0, y).mean()) / 2

    before = student.get_weights()[1].astype(np.float64)
    made.student_loss_weight = 0.0
    logs = made.train_on_batch(X, y, return_dict=True)
    assert float(logs["kd_loss"]) == pytest.approx(kd(z), rel=1e-5)
    slope = truth.gradient(lambda bias: kd(z + bias), np.zeros(3))
    np.testing.assert_allclose((before - student.get_weights()[1]) / 0.1, slope, atol=2e-5)


@pytest.mark.parametrize("loss", ["averaged_outputs", "cosine", "mse"])
def test_a_specialist_with_a_loss_that_cannot_leave_classes_out(loss):
    specialist = TeacherAdapter(linear(1, 2), class_map=[1, None, 0])
    with refused("class_map has None", f"distillation_loss {loss}", "'kl'"):
        compiled(linear(0), [specialist], distillation_loss=loss)


def test_a_class_map_of_nothing_known():
    with pytest.raises(ValueError, match="at most once"):
        TeacherAdapter(linear(1), class_map=[None, None])


def test_dense_teachers_of_another_shape_are_named():
    inputs = keras.Input((5, 4))
    dense = keras.Model(inputs, layers.Dense(3)(inputs))
    pooled = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(inputs)))
    with pytest.raises(ValueError, match="teachers must all give logits"):
        TeacherEnsemble([dense, pooled]).logits(tf.zeros([2, 5, 4]))
    with refused("gives (8, 3), its teachers give (8, 5, 3)"):
        compiled(pooled, [dense]).train_on_batch(np.zeros((8, 5, 4), np.float32), np.zeros(8, int))


def test_labels_of_some_of_the_outputs():
    """By name, for a model whose outputs are a list and only some have labels."""
    model = several(0, list)
    assert of_output({"logits": Y}, 1, model) is Y
    assert of_output({"value": X}, 1, model) is None
    assert of_output([X, Y], 1, model) is Y
    assert of_output(Y, None, model) is Y

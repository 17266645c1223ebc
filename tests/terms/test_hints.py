import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import EnsembleDistiller, Hints, models
from aekd_tf.terms.hints import find_layer
from aekd_tf.terms.regressors import Regressor
from tools import reference

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(seed, width=3, strides=1, dtype="float32", classes=3):
    """Images `[B, 8, 8, 1]` to logits; the layer `"middle"` gives `[B, 8/s, 8/s, width]`."""
    keras.utils.set_random_seed(seed)
    options = {"padding": "same", "dtype": dtype}
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype=dtype),
            keras.layers.Conv2D(width, 3, strides, activation="tanh", name="middle", **options),
            keras.layers.Conv2D(4, 3, 2, activation="tanh", name="late", **options),
            keras.layers.GlobalAveragePooling2D(dtype=dtype),
            keras.layers.Dense(classes, name="logits", dtype=dtype),
        ],
        name=f"network_{seed}",
    )


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, 8, 8, 1)).astype(np.float32), rng.integers(0, 3, 24)


def build(student, teachers, *, optimizer=None, jit_compile=False, **options):
    options = {"hints": "middle", "hint_weight": 2.0, **options}
    distiller = EnsembleDistiller(student, teachers, **options)
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), loss=LOSS, jit_compile=jit_compile)
    return distiller


@pytest.mark.parametrize("weighting", ["aekd", "average"])
def test_gradients_of_student_and_regressors_by_finite_differences(images, weighting):
    x, y = images
    student = network(1, dtype="float64")
    teachers = [network(seed, 5, dtype="float64") for seed in (2, 3)]
    distiller = build(
        student, teachers, optimizer=keras.optimizers.SGD(1.0), weighting=weighting, dtype="float64"
    )
    distiller.build((None, 8, 8, 1))
    variables = distiller.trainable_variables
    assert len(variables) == len(student.trainable_variables) + 2 * 3
    start = [variable.numpy() for variable in variables]
    state = [variable.numpy() for variable in distiller.non_trainable_variables]
    logs = distiller.train_on_batch(x, y, return_dict=True)
    gradients = [a - variable.numpy() for a, variable in zip(start, variables, strict=True)]
    for variable, value in zip(distiller.non_trainable_variables, state, strict=True):
        variable.assign(value)
    weights = np.array([float(logs[f"teacher_weight_{m}"]) for m in range(2)])
    hint_weights = np.array([float(logs[f"hint_teacher_weight_{m}"]) for m in range(2)])
    teacher_logits = np.stack([teacher(x).numpy() for teacher in teachers])
    middles = [keras.Model(t.inputs[0], t.get_layer("middle").output)(x).numpy() for t in teachers]
    both = keras.Model(student.inputs[0], [student.get_layer("middle").output, student.outputs[0]])

    def loss_at(values):
        """Eq. 7 in float64, the teacher weights held fixed."""
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        feature, logits = (output.numpy() for output in both(x, training=True))
        own = -np.log(reference.softmax(logits))[np.arange(len(y)), y].mean()
        kd = reference.distillation_losses(teacher_logits, logits, 4.0).mean(1)
        maps = [r(feature, training=True).numpy() for r in distiller.regressors.regressors]
        hint = np.array([np.mean((m - t) ** 2) / 2 for m, t in zip(maps, middles, strict=True)])
        return own + 0.9 * weights @ kd + 2.0 * hint_weights @ hint

    assert float(logs["loss"]) == pytest.approx(loss_at(start), rel=1e-4)
    rng = np.random.default_rng(4)
    for index in range(len(variables)):
        direction = rng.normal(size=start[index].shape)
        moved = [list(start), list(start)]
        for sign, values in zip((1, -1), moved, strict=True):
            values[index] = start[index] + sign * 1e-5 * direction
        slope = (loss_at(moved[0]) - loss_at(moved[1])) / 2e-5
        assert np.sum(gradients[index] * direction) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_hint_weights_are_the_optimum_of_the_features(images):
    """Eq. 16 with identity-like regressors: the weights solve the QP of the map's gradients."""
    x, _ = images
    student, teachers = network(1), [network(seed) for seed in (2, 3, 4)]
    weighting = aekd_tf.AdaptiveWeighting(0.5, "full")
    distiller = build(student, teachers, hint_weighting=weighting)
    distiller.build((None, 8, 8, 1))
    feature = keras.Model(student.inputs[0], student.get_layer("middle").output)(x)
    gradients = []
    for teacher, r in zip(teachers, distiller.regressors.regressors, strict=True):
        target = keras.Model(teacher.inputs[0], teacher.get_layer("middle").output)(x)
        with tf.GradientTape() as tape:
            tape.watch(feature)
            loss = tf.reduce_mean(tf.square(target - r(feature, training=True))) / 2
        gradients.append(tape.gradient(loss, feature).numpy().ravel())
    gram = np.array(gradients, np.float64) @ np.array(gradients, np.float64).T
    logs = distiller.train_on_batch(*images, return_dict=True)
    found = np.array([float(logs[f"hint_teacher_weight_{m}"]) for m in range(3)])
    best = aekd_tf.solve_capped_simplex_qp(gram, 0.5, solver="cvxopt").weights.numpy()
    assert reference.objective(gram, found) <= reference.objective(gram, best) * (1 + 1e-4)


def test_fitnets_hint_gradient_is_real(images):
    """With the hint term alone, uniform weights, both student and regressors move."""
    student = network(1)
    distiller = build(
        student,
        [network(2), network(3)],
        weighting="average",
        kd_weight=0.0,
        student_loss_weight=0.0,
    )
    distiller.build((None, 8, 8, 1))
    before = [weight.numpy() for weight in distiller.trainable_variables]
    first = distiller.train_on_batch(*images, return_dict=True)
    moved = {
        variable.path: np.abs(variable.numpy() - value).max()
        for variable, value in zip(distiller.trainable_variables, before, strict=True)
    }
    for path, change in moved.items():
        # Layers behind the hint are none of its business.
        assert (change > 0) == ("late" not in path and "logits" not in path), path
    for _ in range(30):
        last = distiller.train_on_batch(*images, return_dict=True)
    assert float(last["hint_loss"]) < 0.9 * float(first["hint_loss"])
    assert float(last["hint_teacher_weight_0"]) == 0.5


def test_two_weight_vectors_are_separate_metrics(images):
    teachers = [network(2), network(3), network(4)]
    distiller = build(network(1), teachers, weighting="aekd")
    history = distiller.fit(*images, epochs=1, verbose=0, validation_data=images).history
    for prefix in ("", "hint_"):
        weights = np.array([history[f"{prefix}teacher_weight_{m}"][0] for m in range(3)])
        assert weights.sum() == pytest.approx(1, abs=1e-5)
        assert {f"{prefix}effective_teachers", f"{prefix}qp_gap"} <= set(history)
    assert {name for name in history if name.startswith("val_")} == {
        *("val_loss", "val_kd_loss", "val_hint_loss")
    }
    assert all(
        history[f"teacher_weight_{m}"] != history[f"hint_teacher_weight_{m}"] for m in range(3)
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_hints_from_the_second_epoch(images, jit_compile):
    """The first epoch trains the student as if there were no hints."""
    teachers = [network(2), network(3)]
    hints = Hints("middle", first_epoch=2)
    with_hints = build(network(1), teachers, hints=hints, jit_compile=jit_compile)
    without = build(network(1), teachers, hints=None, hint_weight=0.0, jit_compile=jit_compile)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    for epoch in (0, 1):
        for distiller in (with_hints, without):
            distiller.fit(*images, initial_epoch=epoch, epochs=epoch + 1, **options)
        pairs = zip(with_hints.student.get_weights(), without.student.get_weights(), strict=True)
        same = [np.allclose(a, b, atol=1e-6) for a, b in pairs]
        assert all(same) == (epoch == 0)


def test_a_later_fit_of_loaded_weights_has_its_hints(images, tmp_path):
    teachers = [network(2), network(3)]
    first = build(network(1), teachers, hints=Hints("middle", first_epoch=5))
    first.fit(*images, epochs=1, verbose=0)
    first.save_weights(tmp_path / "a.weights.h5")
    second = build(network(1), teachers)
    second.fit(*images, epochs=1, verbose=0)
    second.load_weights(tmp_path / "a.weights.h5")
    assert float(second._hint_scale) == 1.0


@pytest.fixture(scope="module")
def distiller():
    """A distiller that several tests fit, in turn, with callbacks of their own."""
    return build(network(1), [network(2), network(3)])


@pytest.mark.parametrize("given", ["list", "single", "keras list", "positional"])
def test_callbacks_in_every_form_that_keras_takes(images, distiller, given):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    if given == "positional":
        distiller.fit(*images, 8, 2, 0, [callback])
    else:
        callbacks = {"list": [callback], "single": callback}.get(given)
        if callbacks is None:
            callbacks = keras.callbacks.CallbackList([callback], add_history=True, model=distiller)
        distiller.fit(*images, epochs=2, callbacks=callbacks, verbose=0)
    assert seen == [0, 1]


def test_half_precision_weighs_like_single(images):
    """Gradients of a mean over a large map would vanish in float16."""
    from aekd_tf.terms.regressors import HintRegressors

    rng = np.random.default_rng(0)
    student = rng.normal(size=(64, 16, 16, 8))
    targets = [student + 0.01 * rng.normal(size=student.shape) for _ in range(3)]
    grams = []
    for dtype in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        regressors = HintRegressors(dtype=dtype)
        regressors.build_for(student.shape, [student.shape] * 3)
        compute = regressors.compute_dtype
        _, gradients = regressors.losses_and_gradients(
            tf.constant(student, compute),
            [tf.constant(target, compute) for target in targets],
            tf.fill([64], 1 / 64),
            tf.constant(64.0),
        )
        rows = tf.reshape(gradients, [3, -1]).numpy().astype(np.float64)
        assert np.mean(rows == 0) < 0.01
        grams.append(rows @ rows.T)
    np.testing.assert_allclose(grams[1], grams[0], rtol=0.02)


class Subclassed(keras.Model):
    """A student that is no functional graph, with its hint layer inside a nested model."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(
            [keras.layers.Conv2D(3, 3, padding="same", name="middle"), keras.layers.ReLU()]
        )
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.head = keras.layers.Dense(3)

    def call(self, inputs, training=None):
        return self.head(self.pool(self.body(inputs, training=training)))


def test_subclassed_student_of_nested_layers(images):
    student = Subclassed()
    distiller = build(student, [network(2), network(3, strides=2)], weighting="average")
    logs = distiller.fit(*images, epochs=1, verbose=0).history
    assert np.isfinite(logs["hint_loss"]).all()
    assert student(images[0]).shape == (24, 3)
    assert not any("regressor" in weight.path for weight in student.weights)


def test_saved_distiller_trains_on_with_its_regressors(images, tmp_path):
    distiller = build(network(1), [network(2), network(3)], optimizer="adam")
    distiller.fit(*images, epochs=1, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.hints.get_config() == distiller.hints.get_config()
    found = loaded.train_on_batch(*images, return_dict=True)
    expected = distiller.train_on_batch(*images, return_dict=True)
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, rel=1e-5
    )


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((16, 16, 4), (8, 8, 6)), ((8, 8, 4), (16, 16, 6)), ((9, 9, 4), (7, 7, 2)), ((4, 4, 3),) * 2],
)
def test_regressors_align_every_size(student, teacher):
    output = Regressor((None, *student), (None, *teacher))(np.ones((2, *student)))
    assert output.shape == (2, *teacher)


def test_hints_of_the_networks_of_the_paper():
    inputs = (32, 32, 3)
    student = models.create("mobilenetv2", 10, inputs)
    teachers = [models.create(name, 10, inputs) for name in ("resnet8", "wrn_16_1", "vgg8")]
    distiller = EnsembleDistiller(student, teachers, hints="stage2", hint_weight=1.0)
    distiller.build((None, *inputs))
    maps = [r(np.zeros((1, 8, 8, 16))) for r in distiller.regressors.regressors]
    assert [m.shape[1:] for m in maps] == [(16, 16, 32), (16, 16, 32), (16, 16, 128)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hints": "midle"}, "no layer 'midle'; its layers are middle, late"),
        ({"hints": Hints("middle", "nowhere")}, "network_2 has no layer 'nowhere'; its layers"),
        ({"hints": Hints("middle", ["middle"] * 3)}, "3 teachers' layers for 2 teachers"),
        ({"hints": None}, "hint_weight is 2.0 without hints"),
        ({"hint_weight": -1.0}, "hint_weight is -1.0"),
        ({"gradient_space": "weights"}, "unknown gradient_space 'weights'"),
        ({"hint_weighting": aekd_tf.AdaptiveWeighting(0.4)}, "too small for 2 teachers"),
    ],
)
def test_bad_hints(options, message):
    with pytest.raises(ValueError, match=message):
        build(network(1), [network(2), network(3)], **options)


def test_maps_that_cannot_be_aligned(images):
    models = network(1, strides=2), [network(2), network(3)]
    with pytest.raises(
        ValueError, match=r"\(2, 2, 4\) of the student and \(8, 8, 3\) of a teacher"
    ):
        build(*models, hints=Hints("late", "middle"))


def test_bad_hints_object():
    with pytest.raises(ValueError, match="first_epoch is 0"):
        Hints("stage2", first_epoch=0)
    with pytest.raises(ValueError, match="give layers' names"):
        Hints("")


def test_hint_layer_named_twice():
    shared = keras.layers.Dense(3, name="twice")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="twice")])
    model = keras.Sequential([keras.Input((4,)), inner, shared])
    with pytest.raises(ValueError, match="has 2 layers 'twice'"):
        find_layer(model, "twice")


def test_theorem_1_in_parameter_space(images):
    """A short step along -d lowers every teacher's loss whose weight is below the cap."""
    x, y = images
    student, teachers = network(0), [network(s) for s in (1, 2, 3, 4)]
    distiller = build(
        student,
        teachers,
        hints=None,
        hint_weight=0.0,
        student_loss_weight=0.0,
        kd_weight=1.0,
        optimizer=keras.optimizers.SGD(1e-3),
        gradient_space="parameters",
        weighting=aekd_tf.AdaptiveWeighting(0.5),
    )
    lowered = 0
    for seed in range(8):
        student.set_weights(network(seed).get_weights())
        for number, teacher in enumerate(teachers, start=1):
            teacher.set_weights(network(100 * seed + number).get_weights())
            # Real disagreement: confident teachers of other opinions.
            teacher.layers[-1].kernel.assign(teacher.layers[-1].kernel * 20)
        outputs = np.stack([teacher(x).numpy() for teacher in teachers])

        def losses(outputs=outputs):
            return reference.distillation_losses(outputs, student(x).numpy(), 4.0).mean(1)

        before = losses()
        logs = distiller.train_on_batch(x, y, return_dict=True)
        weights = np.array([float(logs[f"teacher_weight_{m}"]) for m in range(4)])
        change = losses() - before
        slack_zero = weights < 0.5 - 1e-4
        assert (change[slack_zero] < 1e-6).all(), (seed, weights, change)
        lowered += int((change[slack_zero] < -1e-7).sum())
    assert lowered >= 8

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import EnsembleDistiller
from tools import reference
from tools.networks import classifier

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(teachers, *, seed=7, optimizer=None, metrics=("accuracy",), jit_compile=False, **options):
    distiller = EnsembleDistiller(classifier(seed), teachers, **options)
    distiller.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        loss=LOSS,
        metrics=list(metrics),
        jit_compile=jit_compile,
    )
    return distiller


def fit(distiller, toy_data, epochs=2, **options):
    x, y = toy_data
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return distiller.fit(x, y, epochs=epochs, **options).history


def one_step(distiller, toy_data):
    """Logs and new weights of one step on the whole toy data, from the same start."""
    x, y = toy_data
    logs = distiller.train_on_batch(x, y, return_dict=True)
    return {name: float(value) for name, value in logs.items()}, distiller.student.get_weights()


def assert_same_weights(found, expected, **tolerance):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, **{"atol": 1e-6, **tolerance})


def test_logs_and_shapes(teachers, toy_data):
    x, y = toy_data
    distiller = build(teachers)
    history = fit(distiller, toy_data, validation_data=(x, y))
    trained = {"accuracy", "loss", "student_loss", "kd_loss", "effective_teachers", "qp_gap"}
    trained |= {"gradient_conflict", "teacher_weight_0", "teacher_weight_1", "teacher_weight_2"}
    trained |= {f"teacher_left_out_{m}" for m in range(3)}
    assert set(history) == trained | {"val_accuracy", "val_loss", "val_kd_loss"}
    weights = np.array([history[f"teacher_weight_{m}"] for m in range(3)])
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-5)
    assert weights.max() <= 0.6 + 1e-6
    assert 1 <= min(history["effective_teachers"]) <= max(history["effective_teachers"]) <= 3
    assert max(history["qp_gap"]) < 1e-5
    assert distiller.predict(x, verbose=0).shape == (48, 3)
    np.testing.assert_array_equal(
        distiller.predict(x, verbose=0), distiller.student.predict(x, verbose=0)
    )


def test_evaluate_is_the_students(teachers, toy_data):
    distiller = build(teachers)
    fit(distiller, toy_data)
    student = distiller.student
    student.compile(loss=LOSS, metrics=["accuracy"])
    expected = student.evaluate(*toy_data, verbose=0, return_dict=True)
    found = distiller.evaluate(*toy_data, verbose=0, return_dict=True)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("batch_gradient", ["mean", "full"])
def test_weights_are_the_optimum_of_the_reference(teachers, toy_data, batch_gradient):
    x, _ = toy_data
    weighting = aekd_tf.AdaptiveWeighting(0.5, batch_gradient)
    distiller = build(teachers, weighting=weighting)
    student = distiller.student(x, training=True).numpy()
    outputs = np.stack([t.predict(x, verbose=0) for t in teachers])
    logs, _ = one_step(build(teachers, weighting=weighting), toy_data)
    gram = reference.gram(reference.logit_gradients(outputs, student, 4.0), batch_gradient)
    found = np.array([logs[f"teacher_weight_{m}"] for m in range(3)])
    best = aekd_tf.solve_capped_simplex_qp(gram, 0.5, solver="cvxopt").weights.numpy()
    assert reference.objective(gram, found) <= reference.objective(gram, best) * (1 + 1e-4)
    losses = reference.distillation_losses(outputs, student, 4.0).mean(1)
    assert logs["kd_loss"] == pytest.approx(found @ losses, rel=1e-4)
    assert logs["loss"] == pytest.approx(logs["student_loss"] + 0.9 * logs["kd_loss"], rel=1e-5)


def test_average_equals_distilling_the_averaged_output(teachers, toy_data):
    """Proposition 1, for the whole training step."""
    _, found = one_step(build(teachers, weighting="average"), toy_data)

    inputs = keras.Input((4,))
    softened = [keras.ops.softmax(teacher(inputs, training=False) / 4.0) for teacher in teachers]
    mean_teacher = keras.Model(inputs, 4.0 * keras.ops.log(sum(softened) / 3))
    _, expected = one_step(build([mean_teacher], weighting="average"), toy_data)
    assert_same_weights(found, expected, atol=1e-5)


def test_averaged_outputs_train_like_averaged_losses(teachers, toy_data):
    """Proposition 1 again, by the two weightings; the losses differ by what has no gradient."""
    logs, found = one_step(build(teachers, weighting="average_outputs"), toy_data)
    plain, expected = one_step(build(teachers, weighting="average"), toy_data)
    assert_same_weights(found, expected, atol=1e-5)
    assert logs["kd_loss"] < plain["kd_loss"]


def test_one_teacher_is_ordinary_distillation(teachers, toy_data):
    _, adaptive = one_step(build(teachers[:1]), toy_data)
    _, average = one_step(build(teachers[:1], weighting="average"), toy_data)
    assert_same_weights(adaptive, average)

    # Against a step written out: cross-entropy + 0.9 * T^2 KL, plain SGD.
    x, y = toy_data
    student = classifier(7)
    with tf.GradientTape() as tape:
        logits = student(x, training=True)
        softened = tf.nn.softmax(teachers[0](x, training=False) / 4.0)
        kd = 16 * keras.losses.KLDivergence()(softened, tf.nn.softmax(logits / 4.0))
        loss = LOSS(y, logits) + 0.9 * kd
    gradients = tape.gradient(loss, student.trainable_variables)
    for variable, gradient in zip(student.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    assert_same_weights(adaptive, student.get_weights(), atol=1e-5)


def test_smallest_cap_equals_average(teachers, toy_data):
    capped = build(teachers, weighting=aekd_tf.AdaptiveWeighting(1 / 3))
    _, found = one_step(capped, toy_data)
    _, expected = one_step(build(teachers, weighting="average"), toy_data)
    assert_same_weights(found, expected)


def test_without_distillation_it_is_plain_training(teachers, toy_data):
    distiller = build(teachers, kd_weight=0.0)
    fit(distiller, toy_data)
    student = classifier(7)
    student.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=LOSS, jit_compile=False)
    student.fit(*toy_data, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(distiller.student.get_weights(), student.get_weights())


def test_teachers_are_bit_identical_after_fit(teachers, toy_data):
    before = [weight.copy() for teacher in teachers for weight in teacher.get_weights()]
    distiller = build(teachers)
    fit(distiller, toy_data)
    after = [weight for teacher in teachers for weight in teacher.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(teacher.trainable for teacher in teachers), "the user's models are untouched"
    assert len(distiller.weights) == len(distiller.student.weights)


def test_checkpoints_hold_the_student_alone(teachers, toy_data, tmp_path):
    wide = [classifier(seed, width=256) for seed in range(6)]
    few, many = (build(given, weighting="average") for given in (teachers[:1], wide))
    sizes = []
    for name, distiller in (("few", few), ("many", many)):
        fit(distiller, toy_data, epochs=1)
        distiller.save_weights(tmp_path / f"{name}.weights.h5")
        sizes.append((tmp_path / f"{name}.weights.h5").stat().st_size)
    assert abs(sizes[0] - sizes[1]) < 2000
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    fit(many, toy_data, epochs=1, callbacks=[backup])
    stored = sum(file.stat().st_size for file in (tmp_path / "backup").rglob("*.h5"))
    assert stored < 2 * sizes[1]


def test_save_load_evaluate_fit_continues_identically(teachers, toy_data, tmp_path):
    weighting = aekd_tf.AdaptiveWeighting(0.45, "full")
    distiller = build(
        aekd_tf.TeacherEnsemble(teachers, vote="mean"),
        weighting=weighting,
        temperature=3.0,
        student_loss_weight=0.5,
        kd_weight=0.7,
        name="pupil",
    )
    fit(distiller, toy_data)
    distiller.save(tmp_path / "distiller.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for name in ("name", "weighting", "temperature", "student_loss_weight", "kd_weight", "vote"):
        assert loaded.get_config()[name] == distiller.get_config()[name]
    assert loaded.teachers.vote == "mean"
    assert loaded.evaluate(*toy_data, verbose=0) == distiller.evaluate(*toy_data, verbose=0)
    first, second = fit(distiller, toy_data), fit(loaded, toy_data)
    assert first == second
    for a, b in zip(distiller.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_delivered_student_stands_alone(teachers, toy_data, tmp_path):
    distiller = build(teachers)
    fit(distiller, toy_data)
    distiller.student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(
        loaded.predict(toy_data[0], verbose=0), distiller.predict(toy_data[0], verbose=0)
    )


def test_same_seed_same_result(teachers, toy_data):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        distiller = build(teachers)
        fit(distiller, toy_data, shuffle=True)
        runs.append(distiller.student.get_weights())
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_eager_graph_and_xla_agree(teachers, toy_data):
    weights = {}
    for name in ("graph", "xla", "eager"):
        distiller = build(teachers, jit_compile=name == "xla")
        distiller.run_eagerly = name == "eager"
        assert distiller.jit_compile is (name == "xla")
        fit(distiller, toy_data)
        weights[name] = distiller.student.get_weights()
    assert_same_weights(weights["graph"], weights["eager"], atol=1e-5)
    assert_same_weights(weights["xla"], weights["eager"], atol=1e-5)


@pytest.mark.parametrize("solver", ["projected", "cvxopt", "libsvm"])
def test_every_solver_trains_alike(teachers, toy_data, solver):
    _, expected = one_step(build(teachers, weighting="aekd"), toy_data)
    weighting = aekd_tf.AdaptiveWeighting(solver=solver)
    _, found = one_step(build(teachers, weighting=weighting), toy_data)
    assert_same_weights(found, expected, atol=1e-4)


@pytest.mark.parametrize("solver", ["cvxopt", "libsvm"])
def test_jit_compile_with_a_reference_solver_is_refused(teachers, solver):
    weighting = aekd_tf.AdaptiveWeighting(solver=solver)
    with pytest.raises(ValueError, match=f"jit_compile=True.*solver='{solver}'.*leaves the graph"):
        build(teachers, weighting=weighting, jit_compile=True)
    assert build(teachers, weighting=weighting, jit_compile="auto").jit_compile is False
    assert build(teachers, jit_compile=True).jit_compile is True


def test_sample_weight_counts_and_excludes(teachers, toy_data):
    x, y = toy_data
    kept = np.arange(48) < 32

    def student():
        keras.utils.set_random_seed(1)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])  # no batch norm

    def trained(x, y, sample_weight, learning_rate):
        distiller = EnsembleDistiller(student(), teachers)
        distiller.compile(keras.optimizers.SGD(learning_rate), loss=LOSS, jit_compile=False)
        distiller.train_on_batch(x, y, sample_weight=sample_weight)
        return distiller.student.get_weights()

    # A zero weight removes an example from the sum, not from the count, as in Keras.
    found = trained(x, y, kept.astype(np.float32), 0.1)
    expected = trained(x[kept], y[kept], None, 0.1 * 32 / 48)
    assert_same_weights(found, expected)


def test_metrics_optimizers_and_regularization(teachers, toy_data):
    keras.utils.set_random_seed(0)
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))]
    )
    distiller = EnsembleDistiller(student, teachers, student_loss_weight=0.5)
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    distiller.compile(
        "adam", loss=LOSS, metrics=["accuracy", top2], weighted_metrics=[], jit_compile=False
    )
    regularization = float(sum(student.losses))
    logs = distiller.train_on_batch(*toy_data, return_dict=True)
    assert {"accuracy", "top2"} <= set(logs)
    total = 0.5 * logs["student_loss"] + 0.9 * logs["kd_loss"] + regularization
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


def test_labels_are_optional(teachers, toy_data):
    distiller = EnsembleDistiller(classifier(7), teachers, student_loss_weight=0.0)
    distiller.compile("sgd", jit_compile=False)
    history = distiller.fit(toy_data[0], batch_size=16, epochs=3, verbose=0).history
    assert history["student_loss"] == [0, 0, 0]
    assert history["kd_loss"][-1] < history["kd_loss"][0]


def test_mixed_precision_student_is_loss_scaled(teachers, toy_data):
    keras.utils.set_random_seed(0)
    policy = keras.DTypePolicy("mixed_float16")
    dense = keras.layers.Dense(3, dtype=policy)
    inputs = keras.Input((4,))
    student = keras.Model(inputs, dense(inputs))
    student.dtype_policy = policy
    distiller = EnsembleDistiller(student, teachers)
    distiller.compile("sgd", loss=LOSS)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    history = distiller.fit(*toy_data, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_leaves_the_inputs_alone(teachers, policy):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Rescaling(1e-5, dtype="float32")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))
    student.dtype_policy = keras.DTypePolicy(policy)
    distiller = EnsembleDistiller(student, teachers)
    images = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32) * 1e5
    np.testing.assert_array_equal(
        distiller.predict(images, verbose=0), student.predict(images, verbose=0)
    )


def test_subclassed_student(teachers, toy_data):
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    distiller = EnsembleDistiller(Student(), teachers)
    distiller.compile("sgd", loss=LOSS, metrics=["accuracy"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        distiller.fit(*toy_data, verbose=0)
        distiller.evaluate(*toy_data, verbose=0)


def test_a_weighting_of_ones_own(teachers, toy_data):
    class FirstTeacher(aekd_tf.Weighting):
        def weights(self, signals):
            return tf.one_hot(0, signals.gram.shape[-1])

    history = fit(build(teachers, weighting=FirstTeacher()), toy_data)
    assert history["teacher_weight_0"] == [1, 1]
    assert history["effective_teachers"] == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature is 0: give a finite number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"kd_weight": float("nan")}, "kd_weight is nan: give a finite number at least 0"),
        ({"kd_weight": -1}, "kd_weight is -1"),
        ({"student_loss_weight": float("inf")}, "student_loss_weight is inf"),
        ({"weighting": "loud"}, "unknown weighting 'loud': choose one of aekd, average"),
        ({"weighting": aekd_tf.AdaptiveWeighting(0.2)}, r"C=0\.2 is too small for 3 teachers"),
    ],
)
def test_bad_arguments(teachers, options, message):
    with pytest.raises(ValueError, match=message):
        EnsembleDistiller(classifier(7), teachers, **options)


def test_bad_models(teachers, toy_data):
    with pytest.raises(ValueError, match="its own teachers"):
        EnsembleDistiller(teachers[0], teachers)
    distiller = build([classifier(1, classes=5)])
    with pytest.raises(ValueError, match=r"student classifier_7 gives .*3.* teachers give .*5"):
        distiller.train_on_batch(*toy_data)

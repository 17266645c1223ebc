"""Settings that change while training take effect at the next step, without a new trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import AdaptiveWeighting, CachedTeachers, EnsembleDistiller, Hints
from tools import reference
from tools.refused import CROSSENTROPY, X, Y, net, refused, two_teachers
from tools.refused import distiller as eager

IMAGES = X.reshape(24, 2, 2, 1)
PLAIN = {"batch_size": 24, "shuffle": False, "verbose": 0}
GRAPHS = []
decay = keras.optimizers.schedules.ExponentialDecay


class Recording(keras.Model):
    """Notes the graph of each trace of its `call`."""

    def __init__(self):
        super().__init__()
        self.map = keras.layers.Conv2D(2, 3, padding="same", name="map")
        self.flat = keras.layers.Flatten()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        GRAPHS.append(tf.compat.v1.get_default_graph())
        return self.dense(self.flat(self.map(inputs)))


def recording(seed):
    keras.utils.set_random_seed(seed)
    model = Recording()
    model(IMAGES)
    return model


def plain(seed):
    keras.utils.set_random_seed(seed)
    layers = recording(seed).layers
    return keras.Sequential([keras.Input((2, 2, 1)), *layers])


def compiled(*arguments, **options):
    """A distiller whose student never moves, so that its losses are known."""
    made = EnsembleDistiller(*arguments, **options)
    made.compile(keras.optimizers.SGD(0.0), CROSSENTROPY, jit_compile=False)
    return made


@pytest.fixture(scope="module")
def traced():
    hints = Hints("map", first_epoch=1)
    teachers = [plain(1), plain(2)]
    given = compiled(
        recording(7),
        teachers,
        weighting=AdaptiveWeighting(solver="cvxopt"),  # the others take seconds to compile
        hints=hints,
        hint_weight=1.0,
        hint_weighting="average",
    )
    given.fit(IMAGES, Y, **PLAIN)
    GRAPHS.clear()
    return given


def kl(student, teachers, temperature):
    outputs = np.stack([np.asarray(teacher(X)) for teacher in teachers])
    return reference.distillation_losses(outputs, np.asarray(student(X)), temperature).mean(1)


def expected_loss(given, logs, epoch):
    """Eq. 7 from the logs' parts and the settings in force."""
    loss = given.student_loss_weight * logs["student_loss"][epoch]
    loss += given.kd_weight * logs["kd_loss"][epoch]
    return loss + given.hint_weight * logs["hint_loss"][epoch]


@pytest.mark.parametrize("name", ["kd_weight", "hint_weight", "student_loss_weight"])
def test_weights_set_by_a_callback_and_between_fits(traced, name):
    GRAPHS.clear()
    found, expected = [], []

    def begin(epoch, logs=None):
        setattr(traced, name, [0.3, 2.0, 0.0][epoch])

    def end(epoch, logs):
        found.append(logs["loss"])
        expected.append(expected_loss(traced, {k: [v] for k, v in logs.items()}, 0))

    callback = keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
    traced.fit(IMAGES, Y, epochs=3, callbacks=[callback], **PLAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(np.round(found, 4))) == 3
    setattr(traced, name, 1.5)
    assert getattr(traced, name) == 1.5
    logs = traced.fit(IMAGES, Y, **PLAIN).history
    np.testing.assert_allclose(logs["loss"], [expected_loss(traced, logs, 0)], rtol=1e-5)
    assert GRAPHS == []  # no new trace


def test_temperature_and_tolerance(traced):
    teachers = list(traced.teachers)
    outputs = np.stack([np.asarray(teacher(IMAGES)) for teacher in teachers])
    student = np.asarray(traced.student(IMAGES))
    GRAPHS.clear()
    for temperature in (1.0, 6.0):
        traced.temperature = temperature
        for tolerance in (0.5, 0.55, 1.0):
            traced.weighting.tolerance = tolerance
            logs = traced.fit(IMAGES, Y, **PLAIN).history
            weights = np.array([logs[f"teacher_weight_{m}"][0] for m in range(2)])
            losses = reference.distillation_losses(outputs, student, temperature).mean(1)
            np.testing.assert_allclose(logs["kd_loss"], [weights @ losses], rtol=1e-4)
            # With two teachers the program is a parabola between its bounds.
            gradients = reference.logit_gradients(outputs, student, temperature)
            (a, b), (_, c) = reference.gram(gradients, "mean")
            first = np.clip((c - b) / (a - 2 * b + c), 1 - tolerance, tolerance)
            np.testing.assert_allclose(weights, [first, 1 - first], atol=2e-3)
    assert GRAPHS == []


SCHEDULE = decay(2.0, decay_steps=1, decay_rate=0.5)


def test_schedules_follow_the_optimizers_steps():
    teachers = two_teachers()
    given = eager(
        None,
        teachers,
        kd_weight=SCHEDULE,
        temperature=decay(8.0, decay_steps=1, decay_rate=0.5),
        student_loss_weight=keras.Variable(0.25),
    )
    given.optimizer.learning_rate = 0.0
    for count in range(3):
        assert int(given.optimizer.iterations) == count
        assert given.kd_weight == pytest.approx(2.0 * 0.5**count)
        assert given.temperature == pytest.approx(8.0 * 0.5**count)
        logs = given.train_on_batch(X, Y, return_dict=True)
        kd_loss = kl(given.student, teachers, 8.0 * 0.5**count).mean()
        crossentropy = float(CROSSENTROPY(Y, given.student(X)))
        assert logs["kd_loss"] == pytest.approx(kd_loss, rel=1e-4)
        expected = 0.25 * crossentropy + 2.0 * 0.5**count * kd_loss
        assert logs["loss"] == pytest.approx(expected, rel=1e-4)
        given.reset_metrics()


def test_a_variable_is_read_at_each_step():
    variable = keras.Variable(0.5, name="strength")
    given = eager(kd_weight=variable)
    given.optimizer.learning_rate = 0.0
    found = {}
    for value in (0.5, 3.0):
        variable.assign(value)
        assert given.kd_weight == value
        given.reset_metrics()
        found[value] = given.train_on_batch(X, Y, return_dict=True)
    slope = (found[3.0]["loss"] - found[0.5]["loss"]) / 2.5
    assert slope == pytest.approx(found[0.5]["kd_loss"], rel=1e-4)
    assert len(given.variables) == len(given.student.variables)  # neither trained nor saved


def test_files_hold_schedules_and_present_values(tmp_path):
    tolerance = decay(1.0, decay_steps=10, decay_rate=0.9)
    given = eager(
        weighting=AdaptiveWeighting(tolerance, solver="projected"),
        kd_weight=SCHEDULE,
        temperature=keras.Variable(2.5),
    )
    given.student_loss_weight = 0.5
    given.optimizer.iterations.assign(1)
    given.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert loaded.get_config()["kd_weight"] == given.get_config()["kd_weight"]
    assert (loaded.kd_weight, loaded.temperature, loaded.student_loss_weight) == (1.0, 2.5, 0.5)
    assert loaded.weighting.tolerance == pytest.approx(0.9**0.1)
    loaded.optimizer.iterations.assign(2)
    assert loaded.kd_weight == 0.5


BAD = {
    "kd_weight": [-1, float("nan"), float("inf"), "much", None],
    "hint_weight": [-0.5, float("nan")],
    "student_loss_weight": [-1, None],
    "temperature": [0, -4.0, float("nan"), float("inf"), "hot", None],
}


@pytest.fixture(scope="module")
def settled():
    return EnsembleDistiller(net(7), two_teachers())


@pytest.mark.parametrize(("name", "value"), [(name, v) for name in BAD for v in BAD[name]])
def test_bad_values_are_refused_when_set(settled, name, value):
    before = getattr(settled, name)
    with refused(f"{name} is {value}: give a finite number"):
        setattr(settled, name, value)
    if isinstance(value, (int, float)):
        for changing in (keras.Variable(float(value)), decay(float(value), 1, 0.5)):
            with refused(f"{name} is {float(value)}"):
                setattr(settled, name, changing)
    assert getattr(settled, name) == before


@pytest.mark.parametrize("value", [0.0, 0.3, 1.2, float("nan")])
def test_bad_tolerances_are_refused_when_set(settled, value):
    with refused(f"C={value}"):
        settled.weighting.tolerance = value
    assert settled.weighting.tolerance == 0.6


@pytest.mark.parametrize(
    "given",
    [1.0, 2, keras.Variable(4.0), decay(4.0, 1, 0.5)],
    ids=["float", "int", "variable", "schedule"],
)
def test_a_top_k_cache_has_one_temperature(given):
    cached = CachedTeachers(2, temperature=4.0)
    with refused("at temperature 4", "a cache without top_k"):
        EnsembleDistiller(net(7), cached, temperature=given)
    made = EnsembleDistiller(net(7), cached)
    made.temperature = 4
    with refused("at temperature 4"):
        made.temperature = given
    assert made.temperature == 4.0
    EnsembleDistiller(net(7), CachedTeachers(2), temperature=given)


def nodes(monkeypatch=None):
    """The operations of a step's graph; with `monkeypatch` of one without any check."""
    if monkeypatch is not None:
        monkeypatch.setattr(EnsembleDistiller, "_check_before_training", lambda *args: None)
    made = compiled(recording(7), [recording(1)], weighting="average")
    made.fit(IMAGES, Y, **PLAIN)
    traces = len(GRAPHS)
    made.fit(IMAGES, Y, **PLAIN)
    assert len(GRAPHS) == traces
    return sorted(operation.type for operation in GRAPHS[-1].get_operations())


def test_checks_leave_no_node_in_the_steps_graph(monkeypatch):
    checked = nodes()
    assert len(checked) > 100
    assert checked == nodes(monkeypatch)

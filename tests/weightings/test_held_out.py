"""Weights that are chosen on held-out examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import (
    AdaptiveWeighting,
    CachedTeachers,
    EnsembleDistiller,
    FixedWeighting,
    Signals,
    TeacherEnsemble,
    solve_capped_simplex_qp,
    weightings,
)
from aekd_tf.weightings.stacked import StackedWeighting
from tools import reference
from tools.refused import CROSSENTROPY, X, Y, distiller, net, refused, two_teachers

M, N, K = 4, 90, 3
random = np.random.default_rng(5)
LABELS = random.integers(0, K, N)
OUTPUTS = (
    random.normal(size=(M, N, K)) + 3 * np.eye(K)[LABELS] * np.arange(1, M + 1)[:, None, None] / M
).astype(np.float32)


def optimum(gram, tolerance=0.6):
    weights = solve_capped_simplex_qp(tf.constant(gram), tolerance, solver="cvxopt").weights
    return reference.objective(gram, weights.numpy())


def check(values, grams, tolerance=0.6):
    """Compares weights `[K, M]` with CVXOPT's by their objective."""
    assert values.min() >= 0
    assert values.max() <= tolerance + 1e-9
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-9)
    for each, gram in zip(values, grams, strict=True):
        assert reference.objective(gram, each) <= optimum(gram, tolerance) * (1 + 1e-5)


def grams_of(residual, classes, prior=5.0, weight=None):
    weight = np.ones(len(classes)) if weight is None else weight
    each = np.einsum("mbk,nbk,b->bmn", residual, residual, weight)
    pooled = each.sum(0) / weight.sum()
    return [each[classes == c].sum(0) + prior * pooled for c in range(K)]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_program_per_class(temperature):
    residual = np.eye(K)[LABELS] - reference.softmax(np.float64(OUTPUTS) / temperature)
    for labels in (LABELS, np.eye(K)[LABELS]):
        found = FixedWeighting.stacked(OUTPUTS, labels, temperature=temperature)
        check(found.values, grams_of(residual, LABELS))
    loose = FixedWeighting.stacked(OUTPUTS, LABELS, temperature=temperature, tolerance=1, prior=0)
    check(loose.values, grams_of(residual, LABELS, prior=0), tolerance=1)
    one = FixedWeighting.stacked(OUTPUTS, LABELS, temperature=temperature, per_class=False)
    rows = residual.reshape(M, -1)
    check(one.values[None], [rows @ rows.T])


def test_the_vote_without_labels_or_if_asked_for():
    ballots = np.eye(K)[OUTPUTS.argmax(-1)].sum(0)
    vote = (ballots + 1e-3 * reference.softmax(np.float64(OUTPUTS)).mean(0)).argmax(-1)
    residual = np.eye(K)[vote] - reference.softmax(np.float64(OUTPUTS) / 4)
    check(FixedWeighting.stacked(OUTPUTS, None).values, grams_of(residual, vote))
    asked = FixedWeighting.stacked(OUTPUTS, LABELS, anchor_to="vote")
    check(asked.values, grams_of(residual, vote))
    with refused("anchored to labels"):
        FixedWeighting.stacked(OUTPUTS, None, anchor_to="labels")


def test_labels_count_as_far_as_the_teachers_agree():
    residual = np.eye(K)[LABELS] - reference.softmax(np.float64(OUTPUTS) / 4)
    shares = ((OUTPUTS.argmax(-1) == LABELS).sum(0) + 0.5) / (M + 1)
    found = FixedWeighting.stacked(OUTPUTS, LABELS, anchor_to="agreed")
    check(found.values, grams_of(residual, LABELS, weight=shares / shares.mean()))


def test_wrong_labels_do_not_mislead_where_teachers_agree():
    """Two good teachers of four; with 40% random labels the unsure ones would look better."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, K, 2000)
    good = 20 * np.eye(K)[truth] + rng.normal(size=(2, 2000, K))
    outputs = np.concatenate([rng.normal(size=(2, 2000, K)) * 0.1, good]).astype(np.float32)
    wrong = np.where(rng.random(2000) < 0.4, rng.integers(0, K, 2000), truth)
    labels = FixedWeighting.stacked(outputs, wrong).values[:, :2].sum(1)
    agreed = FixedWeighting.stacked(outputs, wrong, anchor_to="agreed").values[:, :2].sum(1)
    assert (agreed < 0.5 * labels).all()


def test_models_data_sets_and_sample_weights():
    teachers = two_teachers()
    outputs = np.stack([teacher.predict(X, verbose=0) for teacher in teachers])
    expected = FixedWeighting.stacked(outputs, Y).values
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    for given, data in ((teachers, (X, Y)), (TeacherEnsemble(teachers), batches)):
        found = FixedWeighting.stacked(given, data).values
        np.testing.assert_allclose(found, expected, atol=1e-4)
    weight = random.uniform(0, 2, len(Y)).astype(np.float32)
    residual = np.eye(K)[Y] - reference.softmax(np.float64(outputs) / 4)
    found = FixedWeighting.stacked(teachers, (X, Y, weight))
    check(found.values, grams_of(residual, Y, weight=np.float64(weight)))
    unlabeled = FixedWeighting.stacked(outputs, None).values
    np.testing.assert_allclose(FixedWeighting.stacked(teachers, X).values, unlabeled, atol=1e-4)


def test_other_heads_have_one_program():
    truth = (random.random((N, K)) > 0.5).astype(np.float32)
    rows = (truth - 1 / (1 + np.exp(-np.float64(OUTPUTS)))).reshape(M, -1)
    found = FixedWeighting.stacked(OUTPUTS, truth, head="labels").values
    check(found[None], [rows @ rows.T])
    rows = (truth - np.float64(OUTPUTS)).reshape(M, -1)
    found = FixedWeighting.stacked(OUTPUTS, truth, head="regression").values
    check(found[None], [rows @ rows.T])
    dense, labels = OUTPUTS.reshape(M, N // 3, 3, K), LABELS.reshape(-1, 3)
    rows = (np.eye(K)[labels] - reference.softmax(np.float64(dense) / 4)).reshape(M, -1)
    found = FixedWeighting.stacked(dense, labels).values
    check(found[None], [rows @ rows.T])


def test_a_teacher_that_is_not_finite_has_no_weight():
    outputs = OUTPUTS.copy()
    outputs[1, 5, 0] = np.nan
    found = FixedWeighting.stacked(outputs, LABELS).values
    assert not found[:, 1].any()
    without = FixedWeighting.stacked(outputs[[0, 2, 3]], LABELS).values
    np.testing.assert_allclose(found[:, [0, 2, 3]], without, atol=1e-6)


def test_accuracy_to_a_power():
    right = OUTPUTS.argmax(-1) == LABELS
    expected = np.stack(
        [(right[:, c == LABELS].sum(1) + 0.5) / ((c == LABELS).sum() + 5) for c in range(K)]
    )
    for power in (1.0, 4.0):
        found = FixedWeighting.from_accuracy(OUTPUTS, LABELS, power=power).values
        weights = expected**power
        np.testing.assert_allclose(found, weights / weights.sum(1, keepdims=True))
    one = FixedWeighting.from_accuracy(OUTPUTS, LABELS, per_class=False).values
    weights = right.mean(1) ** 4
    np.testing.assert_allclose(one, weights / weights.sum())
    with refused("requires labels"):
        FixedWeighting.from_accuracy(OUTPUTS, None)


def test_an_example_takes_the_weights_of_its_class():
    values = FixedWeighting.stacked(OUTPUTS, LABELS).values
    weighting = FixedWeighting(values)
    given = Signals(live=tf.ones(M, bool), teacher_outputs=OUTPUTS, labels=LABELS)
    np.testing.assert_allclose(weighting(given)[0], values[LABELS].T, atol=1e-6)
    unlabeled = Signals(live=tf.ones(M, bool), teacher_outputs=OUTPUTS)
    ballots = np.eye(K)[OUTPUTS.argmax(-1)].sum(0)
    sure = (np.sort(ballots)[:, -1] - np.sort(ballots)[:, -2]) > 0
    found = weighting(unlabeled)[0].numpy()[:, sure]
    np.testing.assert_allclose(found, values[ballots[sure].argmax(-1)].T, atol=1e-6)


def test_values_that_do_not_fit():
    for bad in ([0.5, 0.4], [1.5, -0.5], [np.nan, 1], 1.0, [], np.ones((2, 2, 2)) / 2):
        with refused("FixedWeighting was given values"):
            FixedWeighting(bad)
    with refused("weights for 3 teachers, but there are 2"):
        distiller(weighting=FixedWeighting(np.ones(3) / 3))
    with refused("weights for 2 classes, but outputs have 3"):
        distiller(weighting=FixedWeighting(np.ones((2, 2)) / 2)).train_on_batch(X, Y)
    with refused("teachers' outputs have shape (4, 3)"):
        FixedWeighting.stacked(np.ones((4, 3)), None)
    for setting in ({"tolerance": 0.1}, {"temperature": 0}, {"prior": -1}, {"anchor_to": "mean"}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            FixedWeighting.stacked(OUTPUTS, LABELS, **setting)


def fitted(weighting, **options):
    made = distiller(weighting=weighting)
    made.fit(X, Y, epochs=1, verbose=0, **options)
    return made


def test_fit_chooses_on_its_validation_data(capsys):
    held = (X[:12], Y[:12])
    expected = FixedWeighting.stacked(two_teachers(), held).values
    agreed = FixedWeighting.stacked(two_teachers(), held, anchor_to="agreed").values
    made = fitted("stacked", validation_data=held)
    np.testing.assert_allclose(made.weighting.values, expected, atol=1e-4)
    # A later fit keeps them.
    made.fit(X, Y, epochs=1, verbose=0, validation_data=(X[12:], Y[12:]))
    np.testing.assert_allclose(made.weighting.values, expected, atol=1e-4)
    made = fitted("auto", validation_data=tf.data.Dataset.from_tensor_slices(held).batch(5))
    assert isinstance(made.weighting.chosen, StackedWeighting)
    np.testing.assert_allclose(made.weighting.values, agreed, atol=1e-4)
    split = fitted("stacked", validation_split=0.5)
    expected = FixedWeighting.stacked(two_teachers(), (X[12:], Y[12:])).values
    np.testing.assert_allclose(split.weighting.values, expected, atol=1e-4)
    made = distiller(weighting="auto", student_loss_weight=0.0)
    made.fit(X, epochs=1, verbose=0, validation_data=(X[:12],))
    vote = FixedWeighting.stacked(two_teachers(), X[:12]).values
    np.testing.assert_allclose(made.weighting.values, vote, atol=1e-4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["nothing", "generator"])
def test_without_validation_data(given):
    options = {} if given == "nothing" else {"validation_steps": 1}
    held = {} if given == "nothing" else {"validation_data": ((X, Y) for _ in range(1))}
    with refused("held-out examples", "fit(validation_data=(x, y))", "'auto'"):
        fitted("stacked", **held, **options)
    held = {} if given == "nothing" else {"validation_data": ((X, Y) for _ in range(1))}
    made = fitted("auto", **held, **options)
    assert isinstance(made.weighting.chosen, AdaptiveWeighting)
    assert made.weighting.chosen.anchor_to == "vote"
    assert ("generator" in made.weighting.reason) == (given == "generator")


def test_stacked_weights_are_those_of_the_next_traced_step(capsys):
    made = EnsembleDistiller(net(7), two_teachers(), weighting="auto")
    made.compile(keras.optimizers.SGD(0.0), CROSSENTROPY, jit_compile=False)
    made.train_on_batch(X, Y)
    history = made.fit(X, Y, batch_size=24, verbose=2, validation_data=(X, Y)).history
    line = "weighting auto is stacked, on the labels that teachers agree on: there are validation"
    assert line in capsys.readouterr().err
    table = FixedWeighting.stacked(two_teachers(), (X, Y), anchor_to="agreed").values
    mean = table[Y].mean(0)
    for index in range(2):
        assert abs(history[f"teacher_weight_{index}"][0] - mean[index]) < 1e-4


def test_cached_outputs_and_top_k():
    outputs = np.stack([teacher.predict(X, verbose=0) for teacher in two_teachers()], 1)
    given = {"inputs": X, "teacher_logits": outputs}
    made = distiller(teachers=CachedTeachers(2), weighting="stacked")
    made.fit(given, Y, verbose=0, validation_data=(given, Y))
    expected = FixedWeighting.stacked(two_teachers(), (X, Y)).values
    np.testing.assert_allclose(made.weighting.values, expected, atol=1e-4)
    made = distiller(teachers=CachedTeachers(2), weighting="auto")
    made.fit(given, Y, verbose=0, validation_data=(X, Y))
    assert made.weighting.reason.startswith("validation_data bring no outputs")
    top_k = CachedTeachers(2, temperature=4.0)
    with refused("softens the teachers' outputs at temperature 1", "top-k cache", "at 4 alone"):
        distiller(teachers=top_k, weighting="anchored")
    assert distiller(teachers=top_k, weighting="auto").weighting.chosen.anchor_temperature == 4
    with refused("at temperature 2"):
        distiller(teachers=top_k, weighting=StackedWeighting(temperature=2.0))


def test_the_choice_is_saved_with_the_model(tmp_path):
    made = fitted("auto", validation_data=(X, Y))
    made.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(again.weighting.values, made.weighting.values)
    assert again.weighting.get_config() == made.weighting.get_config()
    for name in ("stacked", "auto"):
        fresh = weightings.get(name)
        assert type(fresh).from_config(fresh.get_config()).get_config() == fresh.get_config()
    with refused("no weights yet"):
        distiller(weighting="stacked").train_on_batch(X, Y)
    with refused("gradient_space='parameters'"):
        distiller(gradient_space="parameters", weighting="auto")

"""What weightings have in common; `tools.weightings.CASES` says which has what."""

import dataclasses

import keras
import numpy as np
import pytest

from aekd_tf import weightings
from aekd_tf.names import WEIGHTINGS
from tools import weightings as tools
from tools.weightings import CASES, signals

ALL = pytest.mark.parametrize("name", CASES)
pytestmark = pytest.mark.xdist_group("weightings")  # they share the traces of the program
EXTREME = [1e4, -65504.0, 3e38]


def having(prop):
    """The cases with that property."""
    return pytest.mark.parametrize("name", [n for n, case in CASES.items() if getattr(case, prop)])


def started(weighting, teachers=4):
    """A state in the middle of a training."""
    rng = np.random.default_rng(9)
    state = weighting.initial_state(teachers)
    return {
        name: rng.dirichlet(np.ones(teachers)).astype(np.float32) if "average" in name else value
        for name, value in state.items()
    }


def part(known, places):
    """The signals of the teachers at `places`, in that order."""
    return dataclasses.replace(
        known,
        live=known.live.numpy()[places],
        gram=tools.tensor(known.gram.numpy()[np.ix_(places, places)]),
        losses=tools.tensor(known.losses.numpy()[places]),
        teacher_outputs=tools.tensor(known.teacher_outputs.numpy()[places]),
        state={
            name: tools.tensor(value.numpy()[places] / value.numpy()[places].sum())
            if "average" in name
            else value
            for name, value in known.state.items()
        },
    )


def on_simplex(weights, live):
    live = np.asarray(live)
    assert weights.dtype == np.float32
    assert np.isfinite(weights).all()
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(0), float(live.any()), atol=1e-6)
    assert not weights[~live].any()


@ALL
@pytest.mark.parametrize("live", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
def test_on_the_simplex(name, live):
    weighting = CASES[name].make()
    live = np.array(live, bool)
    for state in (weighting.initial_state(4), started(weighting)):
        weights = weighting(signals(live=live, state=state))[0].numpy()
        assert weights.shape in [(4,), (4, 6)]
        on_simplex(weights, live)


@having("permutes")
def test_permuting_teachers_permutes_weights(name):
    weighting = CASES[name].make()
    known = signals(state=started(weighting))
    order = np.array([2, 0, 3, 1])
    found = weighting(part(known, order))[0]
    np.testing.assert_allclose(found, weighting(known)[0].numpy()[order], atol=2e-6)


@having("scales")
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_scaling_losses_changes_nothing(name, scale):
    weighting = CASES[name].make()
    known = signals(state=started(weighting))
    scaled = dataclasses.replace(known, gram=scale**2 * known.gram, losses=scale * known.losses)
    np.testing.assert_allclose(weighting(scaled)[0], weighting(known)[0], atol=2e-6)


@having("leaves_out")
@pytest.mark.parametrize("out", [0, 2])
def test_a_teacher_that_is_left_out_is_as_if_it_were_not_there(name, out):
    weighting = CASES[name].make()
    rest = np.delete(np.arange(4), out)
    known = signals(live=np.arange(4) != out, state=started(weighting))
    found = weighting(known)[0].numpy()
    assert not found[out].any()
    np.testing.assert_allclose(found[rest], weighting(part(known, rest))[0], atol=2e-6)


@ALL
def test_one_teacher_has_all_the_weight(name):
    weighting = CASES[name].make()
    weights = weighting(signals(teachers=1, state=started(weighting, 1)))[0].numpy()
    np.testing.assert_allclose(weights, 1, rtol=1e-6)


@ALL
@pytest.mark.parametrize("extreme", EXTREME)
def test_extreme_logits_give_numbers(name, extreme):
    weighting = CASES[name].make()
    known = signals(state=started(weighting))
    outputs = known.teacher_outputs.numpy()
    outputs[0, :, 0] = extreme
    outputs[1, :, 1:] = -abs(extreme)
    outputs[2] = np.sign(outputs[2]) * abs(extreme)
    student = known.student_outputs.numpy()
    student[:, 2] = -abs(extreme)
    known = dataclasses.replace(
        known, teacher_outputs=tools.tensor(outputs), student_outputs=tools.tensor(student)
    )
    on_simplex(weighting(known)[0].numpy(), known.live)


def test_teachers_that_are_all_sure_count_the_same():
    outputs = np.full((4, 6, 5), -1e4)
    outputs[..., 0] = 1e4
    weights = weightings.get("ebkd")(signals(teacher_outputs=outputs))[0]
    np.testing.assert_allclose(weights, 0.25)


def test_names():
    assert set(weightings._MADE_BY) == set(WEIGHTINGS)
    for name in WEIGHTINGS:
        assert weightings.get(name).description
    assert weightings.get("mgda").tolerance == 1
    # In test_held_out.py: what is chosen there, and the same as another.
    others = {"average_outputs", "auto", "stacked"}
    assert {name.split(",")[0] for name in CASES} >= {*WEIGHTINGS} - others


@ALL
def test_configuration(name):
    weighting = CASES[name].make()
    config = keras.saving.serialize_keras_object(weighting)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(weighting)
    assert keras.saving.serialize_keras_object(again) == config
    assert weightings.get(again) is again

"""What the pages of losses and heads define does what they say, and their overview is complete."""

import re

import numpy as np
import pytest
import tensorflow as tf
from pages import names_of, text_of

from aekd_tf import Signals
from aekd_tf.names import DISTILLATION_LOSSES, HEADS

PAGE = text_of("losses_and_heads.md")
TABLE = [line.split("|")[1:-1] for line in PAGE.split("\n\n")[2].splitlines()[2:]]
pytestmark = pytest.mark.xdist_group("pages")  # one run of a page serves all tests


def test_heads_are_evaluated():
    names = names_of("how/heads.md")
    assert len(names["areas"]) == 5
    assert names["error"] > 0


def test_a_hint_takes_the_weights_of_the_outputs():
    history = names_of("how/hints.md")["history"]
    assert history["teacher_weight_0"] == history["hint_1_teacher_weight_0"]
    assert {"hint_0_loss", "hint_1_loss", "hint_0_teacher_weight_1"} <= set(history)


@pytest.fixture
def ca_mkd():
    return names_of("how/own_weighting.md")["ConfidenceAware"]()


@pytest.mark.parametrize("dead", [[], [1], [0, 3]])
def test_ca_mkd_is_that_of_its_formula(ca_mkd, dead):
    rng = np.random.default_rng(7)
    outputs = rng.normal(size=(4, 6, 5)).astype(np.float32) * 3
    outputs[dead] = 0
    labels = rng.integers(0, 5, 6)
    live = ~np.isin(np.arange(4), dead)
    signals = Signals(
        live=tf.constant(live), teacher_outputs=tf.constant(outputs), labels=tf.constant(labels)
    )
    weights, _ = ca_mkd(signals)
    z = outputs[live].astype(np.float64)
    ce = np.log(np.exp(z).sum(-1)) - z[:, np.arange(6), labels]
    expected = np.zeros((4, 6))
    expected[live] = (1 - np.exp(ce) / np.exp(ce).sum(0)) / (live.sum() - 1)
    np.testing.assert_allclose(expected.sum(0), 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
    assert not np.any(np.asarray(weights)[dead])


def test_ca_mkd_gives_the_only_live_teacher_all(ca_mkd):
    signals = Signals(
        live=tf.constant([False, True]),
        teacher_outputs=tf.random.stateless_normal((2, 3, 4), (1, 2)),
        labels=tf.constant([0, 1, 2]),
    )
    weights, _ = ca_mkd(signals)
    np.testing.assert_array_equal(weights, [[0.0] * 3, [1.0] * 3])


def test_the_table_names_all_losses_and_heads():
    assert set(re.findall(r'"(\w+)"', "".join(row[1] for row in TABLE))) == set(DISTILLATION_LOSSES)
    assert set(re.findall(r'^ `"(\w+)"', "\n".join(row[0] for row in TABLE), re.M)) == set(HEADS)
    linked = re.findall(r'^- \[`"(\w+)"`\]\(losses/(\w+)\.md\): ', PAGE, re.M)
    assert all(name == page for name, page in linked)
    assert {name for name, _ in linked} == set(DISTILLATION_LOSSES)

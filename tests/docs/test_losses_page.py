"""What docs/losses_and_heads.md prints runs as printed, and says what the code does."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from test_docs import blocks

from aekd_tf import Signals
from aekd_tf.names import DISTILLATION_LOSSES, HEADS

PAGE = (Path(__file__).parents[2] / "docs" / "losses_and_heads.md").read_text(encoding="utf-8")
TABLE = [line.split("|")[1:-1] for line in PAGE.split("\n\n")[2].splitlines()[2:]]
pytestmark = pytest.mark.xdist_group("losses_page")  # one run serves them all


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks define when they run one after the other."""
    count = PAGE.count("```python")
    assert count == PAGE.count("```") / 2
    found = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for number, block in enumerate(blocks(PAGE)[:count], 1):
            exec(compile(block, f"<block {number} of losses_and_heads.md>", "exec"), found)
    return found


def test_examples_run_one_after_the_other(names):
    assert len(names["areas"]) == 5
    assert names["error"] > 0
    history = names["history"]
    assert history["teacher_weight_0"] == history["hint_1_teacher_weight_0"]
    assert {"hint_0_loss", "hint_1_loss", "hint_0_teacher_weight_1"} <= set(history)


@pytest.mark.parametrize("dead", [[], [1], [0, 3]])
def test_ca_mkd_is_that_of_its_formula(names, dead):
    rng = np.random.default_rng(7)
    outputs = rng.normal(size=(4, 6, 5)).astype(np.float32) * 3
    outputs[dead] = 0
    labels = rng.integers(0, 5, 6)
    live = ~np.isin(np.arange(4), dead)
    signals = Signals(
        live=tf.constant(live), teacher_outputs=tf.constant(outputs), labels=tf.constant(labels)
    )
    weights, _ = names["ConfidenceAware"]()(signals)
    z = outputs[live].astype(np.float64)
    ce = np.log(np.exp(z).sum(-1)) - z[:, np.arange(6), labels]
    expected = np.zeros((4, 6))
    expected[live] = (1 - np.exp(ce) / np.exp(ce).sum(0)) / (live.sum() - 1)
    np.testing.assert_allclose(expected.sum(0), 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
    assert not np.any(np.asarray(weights)[dead])


def test_ca_mkd_gives_the_only_live_teacher_all(names):
    signals = Signals(
        live=tf.constant([False, True]),
        teacher_outputs=tf.random.stateless_normal((2, 3, 4), (1, 2)),
        labels=tf.constant([0, 1, 2]),
    )
    weights, _ = names["ConfidenceAware"]()(signals)
    np.testing.assert_array_equal(weights, [[0.0] * 3, [1.0] * 3])


def test_the_table_names_all_losses_and_heads():
    assert set(re.findall(r'"(\w+)"', "".join(row[1] for row in TABLE))) == set(DISTILLATION_LOSSES)
    assert set(re.findall(r'^ `"(\w+)"', "\n".join(row[0] for row in TABLE), re.M)) == set(HEADS)
    assert set(re.findall(r'^- `"(\w+)"`: ', PAGE, re.M)) == set(DISTILLATION_LOSSES)

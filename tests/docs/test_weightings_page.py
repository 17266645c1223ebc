"""The overview of weightings is complete, and its table is what the code does."""

import re

import keras
import numpy as np
import pytest
from pages import names_of, text_of

import aekd_tf
from aekd_tf import CrossEntropyWeighting, EnsembleDistiller, weightings
from aekd_tf.names import WEIGHTINGS
from tools.refused import refused
from tools.weightings import signals

PAGE = text_of("weightings.md")
ROWS = re.findall(
    r'^\| \[`"(\w+)"`\]\(weightings/\1\.md\) \| (.+?) \| (.+?) \| (.+?) \|$', PAGE, re.M
)


@pytest.mark.xdist_group("pages")
def test_the_state_of_a_weighting_of_your_own_turns():
    names = names_of("how/own_weighting.md")
    networks = [names["network"]() for _ in range(4)]
    made = EnsembleDistiller(networks[0], networks[1:], weighting=names["Turns"]())
    made.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    x, y = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32), np.arange(8) % 3
    for turn in (0, 1, 2, 0):
        logs = made.train_on_batch(x, y, return_dict=True)
        assert [float(logs[f"teacher_weight_{m}"]) for m in range(3)] == np.eye(3)[turn].tolist()


def test_all_names_have_a_row():
    assert len(ROWS) == len(WEIGHTINGS)
    assert {name for name, *_ in ROWS} == set(WEIGHTINGS)
    for name in ("FixedWeighting", "Smoothed"):
        assert f"[`{name}`](weightings/" in PAGE
        assert name in aekd_tf.__all__


@pytest.mark.xdist_group("pages")
def test_the_table_is_what_the_code_does():
    for name, shape, reads, outputs in ROWS:
        weighting = weightings.get(name)
        if name == "stacked":  # which has no weights before a `fit`
            assert "held-out" in reads
            continue
        rank = weighting(signals())[0].shape.rank
        assert f"[M{', B' if rank == 2 else ''}]" in shape
        assert ("labels" in reads) == ("labels" in weighting.needs)
        assert ("student" in reads) == ("student_outputs" in weighting.needs)
        assert ("gradients" in reads) == ("gram" in weighting.needs)
        if "labels" in reads:
            with refused("anchored to labels" if name == "anchored" else f"{name} requires labels"):
                weighting(signals(labels=None))
        for head, title in (("labels", "independent labels"), ("regression", "regression")):
            known = signals(head=head, labels=np.zeros((6, 5)))
            if outputs == "any" or title in outputs or name == "average_outputs":
                weighting(known)
            else:
                with refused(f"weighting {name} is for {outputs.replace(', ', ' or ')}, but"):
                    weighting(known)
    assert CrossEntropyWeighting(per_example=True)(signals())[0].shape.rank == 2

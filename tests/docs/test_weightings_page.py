"""What docs/weightings.md prints runs as printed, and its table is what the code does."""

import re
from pathlib import Path

import keras
import numpy as np
from test_docs import blocks

import aekd_tf
from aekd_tf import CrossEntropyWeighting, weightings
from aekd_tf.names import WEIGHTINGS
from tools.refused import refused
from tools.weightings import signals

PAGE = (Path(__file__).parents[2] / "docs" / "weightings.md").read_text(encoding="utf-8")
ROWS = re.findall(r'^\| `"(\w+)"` \| (.+?) \| (.+?) \| (.+?) \|$', PAGE, re.M)


def test_examples_run_one_after_the_other():
    count = PAGE.count("```python")
    assert count == PAGE.count("```") / 2
    names = {"__name__": "page"}
    for number, block in enumerate(blocks(PAGE)[:count], 1):
        exec(compile(block, f"<block {number} of weightings.md>", "exec"), names)
    made = names["distiller"]  # of the weighting that remembers
    made.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    x, y = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32), np.arange(8) % 3
    for turn in (0, 1, 2, 0):
        logs = made.train_on_batch(x, y, return_dict=True)
        assert [float(logs[f"teacher_weight_{m}"]) for m in range(3)] == np.eye(3)[turn].tolist()


def test_all_names_have_a_section_and_a_row():
    assert [name for name, *_ in ROWS] == sorted(WEIGHTINGS, key=[r[0] for r in ROWS].index)
    sections = "".join(re.findall(r"^## (.+)$", PAGE, re.M))
    assert set(re.findall(r'"(\w+)"', sections)) == {name for name, *_ in ROWS} == set(WEIGHTINGS)
    assert "`Smoothed`" in sections
    assert set(re.findall(r"aekd_tf\.(\w+)\(", PAGE)) <= set(aekd_tf.__all__)


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

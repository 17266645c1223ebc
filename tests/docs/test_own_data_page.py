"""The code of docs/own_data.md runs as printed, and gives a teacher that the command takes."""

import re
from pathlib import Path

import numpy as np

from aekd_tf.data.own import load_own

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")


def test_a_forest_becomes_a_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    rows = [f"{value + rng.normal() / 2},{rng.normal()},{value}" for value in labels]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,label", *rows]))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, {})
    answers = np.load(tmp_path / "forest.npy").argmax(1)
    loaded = load_own("table.csv")
    for split in ("train", "test"):
        right = answers[loaded.places[split]] == getattr(loaded.dataset, split).labels
        assert right.mean() > 0.6

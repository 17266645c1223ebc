"""What docs/edge.md prints runs as printed, and its last lines require no TensorFlow."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_docs import blocks

import aekd_tf
from aekd_tf.names import EXPORT_FORMATS, QUANTIZATIONS
from tools.refused import refused

PAGE = (Path(__file__).parents[2] / "docs" / "edge.md").read_text(encoding="utf-8")
COUNT = PAGE.count("```python")
*TRAINING, DEVICE = blocks(PAGE)[:COUNT]
pytestmark = pytest.mark.xdist_group("edge_page")  # one run serves them all
# Alone, as on a device, with the image that is given as a file.
ALONE = """
import sys
import numpy as np
image = np.load("image.npy")
{block}
print(logits.argmax(), {{"keras", "tensorflow"}} & set(sys.modules))
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks define when they run one after the other, with trainings of one epoch."""
    assert PAGE.count("```") / 2 == COUNT
    found = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for number, block in enumerate(TRAINING, 1):
            short = re.sub(r"epochs=\d+", "epochs=1", block)
            exec(compile(short, f"<block {number} of edge.md>", "exec"), found)
        yield found


def test_the_file_is_the_student(names):
    report = names["report"]
    assert report["checked"] == f"{len(names['test'][0])} examples of check_with"
    assert report["agreement"] >= 0.99
    assert report["accuracy"] > 0.3
    assert report["float_layers"] == []


def test_ten_lines_run_the_file(names):
    assert len([line for line in DEVICE.splitlines() if line]) == 10
    pixels = names["test"][0][:40]
    answers = []
    for image in pixels:
        there = {"image": image}  # nothing else
        exec(compile(DEVICE, "<the device's block of edge.md>", "exec"), there)
        answers.append(there["logits"])
    expected = names["aware"](pixels, training=False).numpy()
    step = there["logit_step"]
    assert np.mean(np.abs(np.array(answers) - expected) < 1.01 * step) >= 0.98
    assert np.mean(np.argmax(answers, 1) == expected.argmax(1)) >= 0.95


def test_they_run_without_tensorflow(names):
    pixels = names["test"][0][0]
    np.save("image.npy", pixels)
    code = ALONE.format(block=DEVICE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = names["aware"](pixels[None], training=False).numpy().argmax()
    assert done.stdout.split() == [str(expected), "set()"]


def test_the_table_names_formats_and_quantizations():
    table = PAGE.split("## Which file")[1].split("\n## ")[0]
    first = re.findall(r'^\| .+? \| `"(\w+)"`(?:, `"(\w+)"`)?', table, re.M)
    assert {form for form, _ in first} == set(EXPORT_FORMATS)
    assert {quantize for _, quantize in first} - {""} == set(QUANTIZATIONS)


def test_the_limits_are_those_of_the_code(names):
    front = names["layers"].Rescaling(2.0)
    options = {"format": "litert", "quantize": "int8", "preprocessing": front}
    report = aekd_tf.export_student(names["aware"], "front.tflite", **options)
    assert len(report["float_layers"]) == 1
    x = names["keras"].Input((4, 3))
    recurrent = names["keras"].Model(x, names["layers"].GRU(2)(x))
    with refused("cannot simulate layers"):
        aekd_tf.quantize_aware(recurrent)

"""A type checker reads the package's annotations, as it does for a user."""

import os
import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[1]
WRONG = """
from aekd_tf import AdaptiveWeighting, EnsembleDistiller, TeacherCache, Views
from aekd_tf import export_student, models

AdaptiveWeighting(tolerence=0.3)
Views("five")
TeacherCache("cache", None).fil([])
models.create("resnet8", 10)
export_student(None, "a.tflite", quantization="int8")
EnsembleDistiller(None, [], kd_weight="large")
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Returns what mypy says of a file, without this repository's settings for mypy."""
    cache = tmp_path_factory.mktemp("mypy")

    def checked(path):
        options = ["--config-file=", "--ignore-missing-imports", "--no-error-summary"]
        out, err, status = api.run([*options, f"--cache-dir={cache}", str(path)])
        assert not err
        return out.splitlines(), status

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", os.fspath(ROOT))
        yield checked


def test_a_script_like_the_readme_has_no_error(check):
    assert check(ROOT / "tests" / "tools" / "typed_script.py") == ([], 0)


def test_readme_has_no_error(check, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "readme.py"
    path.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    assert check(path) == ([], 0)


def test_each_mistake_is_an_error(check, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    lines, status = check(path)
    found = [int(line.split(":")[1]) for line in lines if ": error: " in line]
    assert status == 1
    assert sorted(set(found)) == list(range(5, 11))

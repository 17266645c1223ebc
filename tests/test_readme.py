"""What README prints runs as printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["fit", "solver"])
def test_examples_run(example, tmp_path):
    process = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    if "student.keras" in example:
        assert (tmp_path / "student.keras").exists()
        assert "teacher_weight_2" in process.stdout
        assert sum(bool(line.strip()) for line in example.splitlines()) <= 15


def test_links_and_commands_exist():
    for path in re.findall(r"\]\((docs/[^)]+)\)", README.read_text()):
        assert (README.parent / path).exists(), path

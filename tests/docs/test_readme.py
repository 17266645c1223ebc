"""What README prints runs as printed."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_examples_run_one_after_the_other(tmp_path):
    process = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(EXAMPLES)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "student.keras").exists()
    assert "teacher_weight_2" in process.stdout


def test_first_example_is_short():
    assert sum(bool(line.strip()) for line in EXAMPLES[0].splitlines()) <= 15


def test_links_exist():
    for path in re.findall(r"\]\(((?:docs|examples)/[^)]+)\)", README.read_text()):
        assert (README.parent / path).exists(), path

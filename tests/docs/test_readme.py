"""What README prints runs as printed, and the guide leads to the other pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_examples_run_one_after_the_other(tmp_path):
    """With XLA as a user has it: see conftest.py."""
    flags = ("XLA_FLAGS", "TF_XLA_FLAGS")
    process = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(EXAMPLES)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "student.keras").exists()
    assert "teacher_weight_2" in process.stdout


def test_the_site_begins_with_the_same_example():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)```", index, re.DOTALL) == EXAMPLES[:1]


def test_first_example_is_short():
    assert sum(bool(line.strip()) for line in EXAMPLES[0].splitlines()) <= 15


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_guide_leads_to_every_page_of_how():
    pages = {f"how/{page.name}" for page in (ROOT / "docs" / "how").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", GUIDE))

"""What README prints runs as printed, and the guide leads to the other pages."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


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


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_guide_leads_to_every_page_of_how():
    pages = {f"how/{page.name}" for page in (ROOT / "docs" / "how").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", GUIDE))

"""Each block of code in README and docs is run by a test or the site's build, or a shell's."""

import re
import subprocess
from pathlib import Path

import pytest
from pages import DOCS, names_of

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:\A|\n\n)((?:    .*\n)+)")
NOTEBOOK = "---\nfile_format: mystnb\n"
# The pages with Python blocks that a test of their own runs, by that test's file.
RUN_BY = {
    "README.md": "test_readme.py",
    "docs/index.md": "test_readme.py",
    "docs/edge.md": "test_edge_page.py",
    "docs/own_data.md": "test_own_data_page.py",
}
RUN_HERE = ("distributed.md",)
RUN_AS_FOLDERS = ("docs/how/", "docs/losses/", "docs/weightings/")  # by test_pages.py
# What the site's build reads, or shows as it is.
OTHER = ("text", "json", "{toctree}", "{eval-rst}", "{include}", "{literalinclude}")


def blocks(name):
    """`(language, content)` of each block of a page; of an indented one the language is sh."""
    text = TEXTS[name]
    outside = FENCED.sub("", text)
    lists = re.sub(r"^(?:[-*]|\d+\.) .*\n(?: +.*\n|\n(?= ))*", "", outside, flags=re.MULTILINE)
    fenced = [(language.split(" ")[0], content) for language, content in FENCED.findall(text)]
    return fenced + [("sh", content) for content in INDENTED.findall(lists)]


@pytest.mark.parametrize("page", RUN_HERE)
def test_examples_run(page):
    assert names_of(page)["distiller"]


@pytest.mark.parametrize("name", TEXTS)
def test_each_block_is_run_or_a_shell_s(name):
    for language, _ in blocks(name):
        if language == "{code-cell}":  # the build runs it, and fails if it fails
            assert TEXTS[name].startswith(NOTEBOOK), name
        elif language == "python":
            here = name.removeprefix("docs/") in RUN_HERE or name.startswith(RUN_AS_FOLDERS)
            assert here or Path(name).name in (DOCS / "../tests/docs" / RUN_BY[name]).read_text()
        else:
            assert language in ("sh", *OTHER), f"{name}: {language or 'a block without language'}"


@pytest.mark.parametrize("name", TEXTS)
def test_a_shell_reads_what_is_its(name):
    for language, content in blocks(name):
        if language == "sh" and "minimize" not in content:  # a formula
            process = subprocess.run(
                ["bash", "-n"], input=content, capture_output=True, text=True, check=False
            )
            assert process.returncode == 0, f"{name}: {content}\n{process.stderr}"

"""docs/what_can_go_wrong.md lists the refusals of the code, all of them."""

import re
from pathlib import Path

import pytest

from aekd_tf.refusals import REFUSALS
from tools.scripts import script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "what_can_go_wrong.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def write():
    return script("tools/write_refusals.py")


def test_the_page_is_as_written(write):
    assert write.build() == PAGE, "run python tools/write_refusals.py"


@pytest.mark.parametrize("name", REFUSALS)
def test_each_message_and_reason_is_there(name):
    row = REFUSALS[name]
    entries = [entry for entry in re.split(r"\n(?:- |\n## )", PAGE) if row.reason in entry]
    parts = [part for part in re.split(r"'?\{[^}]*\}'?", row.message) if part]
    assert any(all(part in entry for part in parts) for entry in entries)


def test_no_place_is_left_open(write):
    assert "{" not in PAGE
    assert PAGE.count("\n- ") == len(REFUSALS)
    assert set(write.PARTS) <= set(REFUSALS)


@pytest.mark.parametrize("path", ["README.md", "docs/guide.md"])
def test_other_pages_lead_here(path):
    assert "what_can_go_wrong.md)" in (ROOT / path).read_text(encoding="utf-8")

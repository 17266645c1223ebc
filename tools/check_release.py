"""Checks that a release's tag, the package's version, CITATION.cff and CHANGELOG agree.

python tools/check_release.py v0.2.0
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "aekd_tf/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: \"?([^\"\n]+)\"?$",
    "CHANGELOG.md": r"^## \[(?!Unreleased)(.+?)\]",  # the first is the newest release
}


def versions(root: Path = ROOT) -> dict[str, str]:
    """Returns the newest version that each file names, "none" if it names none."""
    found = {}
    for name, pattern in PATTERNS.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    return found


def faults(tag: str, root: Path = ROOT) -> list[str]:
    """Returns one line per fault: another version than that of `tag`, such as v0.2.0, or
    a CHANGELOG whose newest release has no date, or that has changes which are not released."""
    found = [
        f"{name} has version {version}, but the tag is {tag}"
        for name, version in versions(root).items()
        if tag != f"v{version}"
    ]
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *releases = re.split(r"^## \[(?!Unreleased)", text, flags=re.MULTILINE)
    if re.search(r"^- ", unreleased.partition("## [Unreleased]")[2], re.MULTILINE):
        found.append("CHANGELOG.md has changes under [Unreleased]")
    try:
        datetime.date.fromisoformat(releases[0].splitlines()[0].partition("] - ")[2])
    except (IndexError, ValueError):
        found.append("CHANGELOG.md: the newest release has no date such as 2026-11-27")
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/check_release.py v0.2.0")
    sys.exit("\n".join(faults(sys.argv[1])) or 0)

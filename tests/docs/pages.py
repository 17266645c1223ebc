"""Runs the Python blocks of a page of docs, in order and in one namespace."""

import contextlib
import functools
import io
import os
import re
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(name):
    """Returns the text of a page such as `"how/hints.md"`."""
    return (DOCS / name).read_text(encoding="utf-8")


def blocks_of(text):
    """Returns the fenced blocks, each as `(language, content, start, end)`."""
    return [(m[1], m[2], m.start(), m.end()) for m in FENCED.finditer(text)]


def outputs(text, name, names):
    """Yields what each Python block prints, and what the page says that it prints.

    The page says it in a block of text directly after the Python block; None without one.
    """
    found = blocks_of(text)
    for number, (language, content, _, end) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(content, f"<block {number + 1} of {name}>", "exec"), names)
        following = found[number + 1] if number + 1 < len(found) else ("", "", -1, -1)
        shown = following[0] == "text" and not text[end : following[2]].strip()
        yield printed.getvalue(), following[1] if shown else None


@functools.cache
def names_of(name):
    """Runs a page in a temporary directory, once per process, and returns what it defines.

    Raises:
        AssertionError: a block prints something else than the page says.
    """
    names = {"__name__": "page"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            for printed, shown in outputs(text_of(name), name, names):
                assert shown is None or printed == shown, f"{name} prints\n{printed}"
        finally:
            os.chdir(before)
    return names

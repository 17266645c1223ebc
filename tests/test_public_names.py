"""Every public name says what it does, shows it in an example that runs, and is tested."""

import ast
import codeop
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

import aekd_tf

# The examples share the programs that XLA has compiled.
pytestmark = pytest.mark.xdist_group("public_names")
TESTS = Path(__file__).parent
SUBMODULES = ("data", "losses", "models", "weightings")


def public_names():
    """`data.load` and so on, each object under its first name."""
    found = {}
    for name in aekd_tf.__all__:
        if not name.startswith("__") and name not in SUBMODULES:
            found.setdefault(id(getattr(aekd_tf, name)), name)
    for submodule in SUBMODULES:
        module = getattr(aekd_tf, submodule)
        for name in module.__all__:
            found.setdefault(id(getattr(module, name)), f"{submodule}.{name}")
    return sorted(found.values())


NAMES = public_names()
ALL = pytest.mark.parametrize("name", NAMES)


def named(name):
    thing = aekd_tf
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def example_of(thing):
    """The code below `Example::` of a docstring."""
    lines = inspect.getdoc(thing).splitlines()
    lines = lines[lines.index("Example::") + 1 :]
    end = next((i for i, line in enumerate(lines) if line and line[0] != " "), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"


def paste(code, namespace):
    """Runs code line by line as an interpreter does, which ends a block at an empty line."""
    lines = []
    for line in [*code.splitlines(), ""]:
        lines.append(line)
        compiled = codeop.compile_command("\n".join(lines))
        if compiled is not None:
            exec(compiled, namespace)
            lines = []
    assert not any(lines)


@pytest.mark.parametrize("module", ["", *SUBMODULES])
def test_all_is_sorted_and_there(module):
    module = named(module) if module else aekd_tf
    assert list(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)
    assert inspect.getdoc(module).endswith(".")


@ALL
def test_begins_with_a_verb(name):
    first = inspect.getdoc(named(name)).partition("\n")[0]
    assert re.match(r"[A-Z][a-z]+s,? ", first), first
    assert first.endswith((".", "::")), first


@ALL
def test_the_example_runs(name, tmp_path, monkeypatch, capsys):
    """Warnings are errors. What is printed is what the comments say."""
    code = example_of(named(name))
    lines = [line for line in code.splitlines() if line]
    assert 2 <= len(lines) <= 16
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "displayhook", lambda value: None)
    paste(code, {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    said = [line.partition("  # ")[2] for line in lines if "print(" in line]
    assert all(said)
    assert printed == said
    # Something is shown, in print or as a last line that says where to look.
    assert printed or lines[-1].startswith("#")


def callees(tree):
    """Names of the functions that code calls."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}


def raises(thing):
    """Whether code raises, or calls something that is there to raise."""
    found = thing
    if isinstance(thing, type):
        found = vars(thing).get("__post_init__") or vars(thing).get("__init__")
        if getattr(found, "__code__", None) is None or found.__code__.co_filename == "<string>":
            return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))
    checks = any(re.match(r"_?check(ed)?_|_?checked$", each) for each in callees(tree))
    return checks or any(isinstance(node, ast.Raise) for node in ast.walk(tree))


@ALL
def test_says_what_it_raises(name):
    thing = named(name)
    if raises(thing):
        assert "\nRaises:\n" in inspect.getdoc(thing)


def test_some_names_raise():
    assert raises(aekd_tf.Views)
    assert raises(aekd_tf.solve_capped_simplex_qp)
    assert not raises(aekd_tf.hint_loss)


@pytest.fixture(scope="module")
def used():
    """All names and attributes in the code of the other tests, and texts that are names."""
    found = set()
    for path in TESTS.rglob("*.py"):
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
                if isinstance(node.value, ast.Name):
                    found.add(f"{node.value.id}.{node.attr}")
            elif isinstance(node, ast.ImportFrom) and node.module in {
                "aekd_tf",
                *(f"aekd_tf.{each}" for each in SUBMODULES),
            }:
                last = node.module.rpartition(".")[2]
                found |= {f"{last}.{alias.name}" for alias in node.names}
    return found


@ALL
def test_another_test_uses_it(name, used):
    """`data.load` counts if the code says `data.load`, and `DKD` in any form."""
    last = name.rpartition(".")[2]
    assert name in used or (last[0].isupper() and last in used)

"""The house itself: which way imports run, how long files are, what lies at the top."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aekd_tf"
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(path):
    """The modules of the package that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
    return {name for name in names if name in MODULES}


def test_no_import_circle():
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    while True:
        leaves = {name for name, others in graph.items() if not others}
        if not leaves:
            break
        graph = {name: others - leaves for name, others in graph.items() if name not in leaves}
    assert graph == {}, f"these files import each other in a circle, or lead to one: {graph}"


def test_the_library_never_imports_the_experiments():
    for name, path in MODULES.items():
        if not name.startswith("aekd_tf.experiments"):
            wrong = [other for other in imported(path) if "experiments" in other]
            assert wrong == [], f"{name} imports {wrong}"


def test_main_knows_no_command_by_name():
    commands = [p.stem for p in (PACKAGE / "experiments").glob("*.py") if p.stem != "__init__"]
    assert set(commands) >= {"digits", "cifar", "imagenet", "teachers"}
    text = (PACKAGE / "experiments" / "command" / "main.py").read_text(encoding="utf-8")
    words = {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert words.isdisjoint([*commands, "paper"])


def lines_of_code(path):
    """Lines without docstrings; comments and blank lines count."""
    text = path.read_text(encoding="utf-8")
    docstrings = 0
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docstrings += value.end_lineno - value.lineno + 1
    return len(text.splitlines()) - docstrings


@pytest.mark.parametrize("folder", ["aekd_tf", "benchmarks", "tools", "examples"])
def test_files_are_short(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert lines_of_code(path) <= 300, path


def test_the_solver_is_short():
    assert sum(lines_of_code(path) for path in (PACKAGE / "qp").glob("*.py")) <= 600


def test_the_top_is_easy_to_survey():
    entries = [e.name for e in PACKAGE.iterdir() if e.name != "__pycache__"]
    assert len(entries) <= 26


def test_folders_of_scripts_hold_what_they_say():
    assert [path.name for path in (ROOT / "docs").rglob("*.py")] == ["conf.py"]
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"python benchmarks/{path.name}" in path.read_text() or "report" in path.name, path

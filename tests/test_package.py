"""The package as it is delivered: wheel, sdist, the program `aekd-tf`, versions."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import aekd_tf
from aekd_tf.experiments import __main__ as program
from tools.scripts import script

ROOT = Path(__file__).parents[1]
DELIVERED = ("aekd_tf", "benchmarks", "docs", "examples", "tests", "tools")
check_release = script("tools/check_release.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with a wheel that was built from the sdist, as pip builds it."""
    place, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy")
    # In the folder itself, a build would write and delete files while other tests read there.
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
        elif path.name in DELIVERED:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests" / "__pycache__").mkdir()
    (copy / "tests" / "__pycache__" / "left.pyc").touch()
    process = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", place, copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Deprecat" not in process.stdout + process.stderr
    return place


@pytest.mark.xdist_group("package")  # built once
def test_the_wheel_has_the_whole_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        information = f"aekd_tf-{aekd_tf.__version__}.dist-info"
        entry_points = archive.read(f"{information}/entry_points.txt").decode()
        metadata = archive.read(f"{information}/METADATA").decode()
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "aekd_tf").rglob("*.py")}
    assert {n for n in names if not n.startswith(information)} == {*modules, "aekd_tf/py.typed"}
    assert "aekd-tf = aekd_tf.experiments.__main__:main" in entry_points
    assert "License-Expression: Apache-2.0" in metadata
    assert "Operating System :: POSIX" in metadata


@pytest.mark.xdist_group("package")
def test_the_sdist_has_tests_docs_and_license(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"LICENSE", "CITATION.cff", "CHANGELOG.md", "README.md", "tests/test_package.py"}
    assert names >= expected | {"docs/guide.md", "tests/fixtures/golden.npz", "tests/floor.txt"}
    assert not [name for name in names if name.endswith((".pyc", "__pycache__"))]


def commands():
    folder = ROOT / "aekd_tf" / "experiments"
    found = [*folder.glob("*.py"), *folder.glob("*/__main__.py")]
    return {
        (path.parent if path.name == "__main__.py" else path).stem
        for path in found
        if "COMMAND = " in path.read_text(encoding="utf-8")
    }


def test_the_program_knows_all_commands(capsys):
    assert set(program.COMMANDS) == commands()
    assert program.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (module, summary) in program.COMMANDS.items():
        assert importlib.import_module(module).__doc__.splitlines()[0] == summary
        assert f"\n  {name:10} {summary}\n" in text
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"aekd-tf {aekd_tf.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["digit"], ["--ensemble_size=3"]])
def test_no_command_or_an_unknown_one_lists_the_commands(arguments, capsys):
    assert program.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert all(f"\n  {name} " in captured.err for name in program.COMMANDS)


@pytest.mark.parametrize("name", sorted(program.COMMANDS))
def test_help_is_written_for_the_program_that_was_typed(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/aekd-tf", name, "--help"])
    assert program.main() == 0
    assert capsys.readouterr().out.startswith(f"usage: aekd-tf {name} [--flag=value ...]")
    monkeypatch.setattr(sys, "argv", ["digits.py"])
    assert program.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m aekd_tf.experiments.{name} [--flag=value ...]")


def test_a_command_refuses_a_flag_as_it_does_by_itself(capsys):
    assert program.main(["digits", "--no_such_flag=1"]) == 2
    assert capsys.readouterr().err.startswith("error: Unknown command line flag 'no_such_flag'")


def test_a_reader_that_leaves_and_a_full_disk_are_no_faults():
    program_of = f"{sys.executable} -u -m aekd_tf.experiments"
    for command in (f"{program_of} --help | true", f"{program_of} digits --help | head -1"):
        process = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
        )
        assert (process.returncode, process.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "aekd_tf.experiments", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr.startswith("error: the text cannot be written (No space left on device)")
    assert len(process.stderr.splitlines()) == 1


def required():
    """Least versions by name that setup.py asks for."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    found = [re.fullmatch(r"([\w-]+)>=([\w.]+)(,<[\w.]+)?", str(text)) for text in texts]
    return {match[1]: match[2] for match in found if match}


def test_the_floor_is_that_of_setup():
    lines = (ROOT / "tests" / "floor.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    tools = {"build", "furo", "hypothesis", "mnist1d", "mypy", "myst-nb", "pytest"}
    tools |= {"pytest-xdist", "ruff", "setuptools", "sphinx"}
    known = {name: least for name, least in required().items() if name not in tools}
    assert set(pins) == set(known)
    for name, least in known.items():
        assert pins[name] == least or re.fullmatch(rf"{re.escape(least)}(\.0)+", pins[name]), name


def test_the_badges_are_true():
    badges = re.findall(r"^!\[.+$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)[0]
    alternatives = re.findall(r"!\[(.+?)\]\((.+?)\)", badges)
    assert [text for text, _ in alternatives] == [
        "Python 3.11 to 3.13",
        "TensorFlow 2.20, 2.21",
        "License Apache-2.0",
    ]
    for text, address in alternatives:
        shown = address.split("/badge/")[1].rpartition("-")[0].replace("--", "~").replace("-", " ")
        assert shown.replace("~", "-").replace("_", " ").lower() == text.lower()
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert 'python_requires=">=3.11,<3.14"' in setup
    assert '"tensorflow>=2.20,<2.22"' in setup
    assert 'license_expression="Apache-2.0"' in setup


def test_a_release_needs_one_version(tmp_path):
    tag = f"v{aekd_tf.__version__}"
    assert [fault for fault in check_release.faults(tag) if "Unreleased" not in fault] == []
    for name in check_release.PATTERNS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    log = f"# Changelog\n\n## [Unreleased]\n\n## [{aekd_tf.__version__}] - 2026-11-27\n\n- All.\n"
    (tmp_path / "CHANGELOG.md").write_text(log)
    (tmp_path / "CITATION.cff").write_text("version: 9.9\n")
    assert check_release.faults(tag, tmp_path) == [
        f"CITATION.cff has version 9.9, but the tag is {tag}"
    ]
    assert len(check_release.faults("v9.9", tmp_path)) == 2
    (tmp_path / "CITATION.cff").write_text(f'version: "{aekd_tf.__version__}"\n')
    assert check_release.faults(tag, tmp_path) == []
    for old, new, fault in [
        ("## [Unreleased]", "## [Unreleased]\n\n- Something.", "changes under [Unreleased]"),
        (" - 2026-", " - 2026-99-", "has no date"),
        ("## [Unreleased]", "## [Unreleased]\n\n## [9.9.0] - 2030-01-01", "has version 9.9.0"),
    ]:
        (tmp_path / "CHANGELOG.md").write_text(log.replace(old, new))
        assert fault in "".join(check_release.faults(tag, tmp_path))

"""Every refusal is one line that fits a terminal, whatever names it is given."""

import re
import string
import subprocess
import sys

import pytest

import aekd_tf
from aekd_tf.refusals import LONGEST, REFUSALS, listed, refusal
from tools.commands import launch

ALL = pytest.mark.parametrize("name", REFUSALS)
VALUES = {
    "short": "a",
    "long": "a_very_long_name_of_a_layer/" * 20,
    "several lines": "first\n\n   second\tthird\n" * 10,
    "list": [f"some_name_{number}" for number in range(60)],
    "list of long names": ["a_very_long_name_of_a_layer/" * 5] * 60,
    "tuple": tuple(range(60)),
    "number": 123456789,
    "braces": "{name} {0} {}",
    "float": 0.1,
    "None": None,
}


def fields(message):
    return [field for _, field, _, _ in string.Formatter().parse(message) if field]


@ALL
@pytest.mark.parametrize("kind", VALUES)
def test_one_line_of_at_most_300_characters(name, kind):
    row = REFUSALS[name]
    error = refusal(name, **dict.fromkeys(fields(row.message), VALUES[kind]))
    text = str(error)
    assert len(text) <= 300 == LONGEST
    assert len(text.splitlines()) == 1
    assert "  " not in text
    assert isinstance(error, (ValueError, TypeError, ImportError))
    assert type(error) is row.error
    # What to do is never cut off.
    for part in re.split(r"\{[^}]*\}", row.message):
        assert part in text


@ALL
def test_what_a_message_says(name):
    row = REFUSALS[name]
    assert ":" in row.message, "what is wrong, a colon, what to do"
    assert re.search(
        r"\b(give|set|wrap|remove|compile|leave|save|make|use|requires|takes|distill|"
        r"register|freeze|override|return|choose|compute|name)\b",
        row.message.partition(":")[2],
    )
    assert not re.search(r"--\w", row.message), "a library has arguments, not flags"
    assert not row.message.endswith(".")
    assert row.reason.endswith(".")
    assert len(row.reason) > 30
    for sentence in re.split(r"(?<=\.) ", row.reason):
        assert len(sentence.split()) <= 25


@pytest.mark.parametrize("count", [1, 2, 5, 60, 1000])
def test_long_lists_are_cut(count):
    names = [f"teacher_{number}" for number in range(count)]
    text = listed(names)
    shown = [part for part in text.split(", ") if part.startswith("teacher_")]
    assert shown == names[: len(shown)]
    if len(shown) < count:
        assert text.endswith(f", ... and {count - len(shown)} more")
        assert len(text) < 160
    else:
        assert text == ", ".join(names)


@pytest.mark.parametrize("use", ["EnsembleDistiller", "TeacherEnsemble", "AdaptiveWeighting"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend(monkeypatch, backend, use):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(ImportError) as raised:
        getattr(aekd_tf, use)
    message = str(raised.value)
    assert f"but the backend is {backend}: set KERAS_BACKEND=tensorflow" in message
    assert len(message.splitlines()) == 1
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert getattr(aekd_tf, use)


def test_another_backend_in_a_process_of_its_own():
    """Before Keras looks for the backend, which need not be installed."""
    code = (
        "import os, sys\nos.environ['KERAS_BACKEND'] = 'jax'\nimport aekd_tf\n"
        "try:\n    aekd_tf.EnsembleDistiller\nexcept ImportError as error:\n    print(error)\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("aekd_tf requires Keras on TensorFlow, but the backend is jax")


def test_a_command_under_another_backend():
    done = launch("digits", KERAS_BACKEND="torch")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: aekd_tf requires Keras on TensorFlow, but the backend is torch")
    assert launch("digits", "--help", KERAS_BACKEND="torch").returncode == 0

"""Everything that is parsed: each input gives a clean error or correct data, never a trace."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aekd_tf import data, models
from aekd_tf.cache.store import CacheError
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.cache.views import Views
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.experiment_flags import define
from aekd_tf.experiments.command.presets import Experiment
from aekd_tf.experiments.run import students
from tools.commands import parse

FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = define(Experiment("digits", "digits", ("digits",), "quick")).names
VALUES = st.one_of(
    st.text(max_size=12),
    st.integers(-3, 50).map(str),
    st.floats().map(str),
    st.sampled_from(["aekd", "resnet8", "cv", "float16", "10min", "digits", "1e400", "a.keras,"]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def attempt(function, kind):
    """What the function returns, or the message of an error of that kind."""
    try:
        return function(), None
    except kind as error:
        return None, str(error)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from([*NAMES, "unknown"]), VALUES), max_size=4))
def test_flags(pairs):
    arguments = [f"--{name}={value}" for name, value in pairs]
    config, refusal = attempt(lambda: parse("digits", arguments), UserError)
    assert isinstance(config, Config) if refusal is None else refusal.strip()


def mutated(content, draw):
    """`content` with one entry, at any depth, replaced, removed or added."""
    content = copy.deepcopy(content)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        deeper = isinstance(place[key], (dict, list)) and place[key]
        if not deeper or draw(st.booleans()):
            break
        place = place[key]
    if draw(st.booleans()):
        del place[key]
    else:
        place[key] = draw(JSON)
    return content


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A cache, what it holds, its manifest, and a function that opens it anew."""
    directory = tmp_path_factory.mktemp("cache")
    dataset = data.load("digits", train_examples=40)
    path = str(directory / "teacher.keras")
    models.create("resnet8", 10, (8, 8, 1)).save(path)

    def opened():
        cache = TeacherCache(directory, dataset, Views(2), batch_size=40)
        cache.holds(path, "a")
        return cache, cache.fill([path], ["a"])

    cache, _ = opened()
    return directory, cache.logits(1), (directory / "a.json").read_text(), opened


def check_cache(cached):
    """Refused by name, or computed anew: never other numbers."""
    _, expected, _, opened = cached
    found, refusal = attempt(opened, CacheError)
    if refusal is None:
        np.testing.assert_array_equal(found[0].logits(1), expected)
    else:
        assert "a.npy" in refusal
        assert "delete" in refusal


@settings(FUZZ, max_examples=100)
@given(st.data())
def test_manifests(cached, draws):
    directory, _, text, _ = cached
    content = mutated(json.loads(text), draws.draw)
    (directory / "a.json").write_text(json.dumps(content))
    try:
        check_cache(cached)
    finally:
        (directory / "a.json").write_text(text)


@settings(FUZZ, max_examples=100)
@given(position=st.integers(0, 127), value=st.integers(0, 255))
def test_array_headers(cached, position, value):
    directory = cached[0]
    whole = (directory / "a.npy").read_bytes()
    content = bytearray(whole)
    assume(content[position] != value)
    content[position] = value
    (directory / "a.npy").write_bytes(content)
    try:
        check_cache(cached)
    finally:
        (directory / "a.npy").write_bytes(whole)


FIGURES = {
    "test_accuracy": 0.9,
    "validation_accuracy": 0.8,
    "best_validation_test_accuracy": 0.7,
    "best_validation_epoch": 3,
    "teacher_weights": [0.5, 0.5],
    "hint_teacher_weights": None,
    "hint_weight": None,
    "teachers": ["a", "b"],
    "seconds": 3.0,
}


@FUZZ
@given(st.data())
def test_figures_of_students(tmp_path, draws):
    config = parse("digits", [f"--output_dir={tmp_path}"])
    student = students.plan(config)[0]
    (tmp_path / "students").mkdir(exist_ok=True)
    (tmp_path / "students" / "alone.keras").write_bytes(b"")
    text = json.dumps(mutated(FIGURES, draws.draw))
    if draws.draw(st.booleans()):
        text = text[: draws.draw(st.integers(0, len(text)))]
    (tmp_path / "students" / "alone.json").write_text(text)
    figures, refusal = attempt(lambda: students.finished(config, student), UserError)
    if refusal is not None:
        assert "alone.json" in refusal
        assert "delete it" in refusal
        return
    assert set(figures) == set(FIGURES)
    assert 0 <= figures["test_accuracy"] <= 1
    assert isinstance(figures["teachers"], list)


@FUZZ
@given(st.data())
def test_recorded_configurations(tmp_path, draws):
    config = parse("digits", [f"--output_dir={tmp_path}"])
    content = {"aekd_tf": "0", "config": json.loads(json.dumps(config.recorded()))}
    (tmp_path / "config.json").write_text(json.dumps(mutated(content, draws.draw)))
    _, refusal = attempt(lambda: output.check_configuration(config), UserError)
    if refusal is not None:
        assert str(tmp_path) in refusal
        return
    recorded = json.loads((tmp_path / "config.json").read_text())["config"]
    recorded = {**output.BEFORE, **recorded}
    if recorded.get("batch_gradient") == "mean":
        recorded["batch_gradient"] = None
    assert {name: recorded.get(name) for name in content["config"]} == content["config"]

"""What every refusal must be, and small distillers to provoke them with."""

import contextlib
import functools

import keras
import numpy as np
import pytest

from aekd_tf import EnsembleDistiller

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 24)


@contextlib.contextmanager
def refused(*parts, error=ValueError):
    """Expects an error of one line, of at most 300 characters, that contains `parts`."""
    with pytest.raises(error) as raised:
        yield
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) <= 300
    for part in parts:
        assert part in message, message


def net(seed=0, ending=None, classes=3, name=None, inputs=4, **options):
    """A small network without batch norm, from `[B, inputs]` to logits or what `ending` makes."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(classes, activation=ending, **options)]
    return keras.Sequential([keras.Input((inputs,)), *layers], name=name)


class Unmoved(EnsembleDistiller):
    """A distiller whose step does nothing, for what happens before the step."""

    def train_step(self, data):
        return {"loss": 0.0}


@functools.cache
def two_teachers(classes=3):
    """Teachers that tests share, as none of them is trained."""
    return [net(seed, classes=classes) for seed in (1, 2)]


def distiller(
    student=None,
    teachers=None,
    loss=CROSSENTROPY,
    *,
    compiled=None,
    kind=EnsembleDistiller,
    **options,
):
    """A compiled distiller whose step runs eagerly, which needs no trace."""
    student = net(7, name="pupil") if student is None else student
    teachers = two_teachers() if teachers is None else teachers
    made = kind(student, teachers, **{"weighting": "average", **options})
    made.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True, **(compiled or {}))
    return made


def passes(student=None, teachers=None, loss=CROSSENTROPY, *, x=X, y=Y, **options):
    """Checks a student and its teachers as `fit` does, without a step."""
    distiller(student, teachers, loss, kind=Unmoved, **options).train_on_batch(x, y)

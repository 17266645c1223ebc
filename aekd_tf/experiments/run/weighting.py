"""Makes the weighting of a method, from a run's settings and its validation images."""

from __future__ import annotations

import functools

from aekd_tf import data
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.run.methods import Method
from aekd_tf.experiments.run.teacher_pool import TeacherPool
from aekd_tf.training.heads import HEADS
from aekd_tf.weightings import get
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.auto import AutoWeighting
from aekd_tf.weightings.base import Weighting
from aekd_tf.weightings.held_out import held_out
from aekd_tf.weightings.stacked import StackedWeighting


def make(config: Config, method: Method) -> Weighting:
    """Returns the weighting of a method by the run's settings."""
    name = method.weighting
    assert name is not None
    if name == "auto":
        return AutoWeighting(tolerance=config.tolerance)
    if name == "stacked":
        return StackedWeighting(config.tolerance)
    if name not in ("aekd", "anchored"):
        return get(name)
    adaptive = functools.partial(
        AdaptiveWeighting,
        config.tolerance,
        config.batch_gradient,
        config.normalize,
        config.solver,
    )
    if name != config.anchored_method:
        return adaptive()
    return adaptive(
        anchor=float(name == "anchored") if config.anchor is None else config.anchor,
        anchor_temperature=config.anchor_temperature,
        anchor_to=config.anchor_to,
        per_example=config.per_example,
    )


def choose(weighting: Weighting, pool: TeacherPool, dataset: data.Dataset) -> None:
    """Lets a weighting choose on the cached outputs for the validation images, if it does."""
    if pool.caches is None or pool.caches.validation is None:
        return  # `fit` runs the teachers on them
    split = dataset.validation
    weighting.prepare(
        held_out(pool.caches.validation.logits(), split.labels, HEADS[dataset.head].ensemble)
    )

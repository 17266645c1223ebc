"""Loads the data set of a configuration."""

from __future__ import annotations

import dataclasses
import functools
import math
import os

import keras

from aekd_tf import data, models
from aekd_tf.data import own
from aekd_tf.experiments.command import strategies
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError


def load_data(config: Config) -> data.Dataset:
    """Loads the data set of a configuration.

    Raises:
        UserError: more examples than the data set has; a network that does not take its inputs.
        DataError: the data set cannot be loaded.
    """
    # The chief prepares a missing set first, so that the others find it.
    if not strategies.is_chief():
        strategies.wait_for_all()
    try:
        # What an earlier run of this process has read may have changed.
        _loaded.cache_clear()
        _one_output.cache_clear()
        dataset = load_own(config).dataset if config.data else _load_named(config)
        for network in {config.student, *config.teachers} & set(models.names()):
            models.check_shape(network, dataset.image_shape)
    except ValueError as error:
        raise UserError(str(error)) from error
    if strategies.is_chief():
        strategies.wait_for_all()
    return dataset


def _load_named(config: Config) -> data.Dataset:
    return data.load(
        config.dataset,
        data_dir=config.data_dir,
        train_examples=config.train_examples,
        validation_examples=config.validation_examples,
        image_size=config.image_size,
    )


def load_own(config: Config) -> own.OwnData:
    """Loads the user's own data of a configuration, once per process."""
    for name in ("train_examples", "validation_examples"):
        if getattr(config, name) is not None:
            raise UserError(f"{name} is for sets with a name: leave it out with --data")
    assert config.data is not None
    return _loaded(
        config.data,
        label=config.label,
        head_name=config.head,
        one_output=config.head == "auto"
        and _one_output((config.student, *config.teachers), config.trust_teachers),
        augment=config.augment,
        image_size=config.image_size,
        data_dir=config.data_dir,
    )


@functools.lru_cache(maxsize=1)
def _one_output(names: tuple[str, ...], trusted: bool) -> bool:
    """Returns whether the models that are given as files have one output."""
    for name in names:
        if not name.endswith(".keras"):
            continue
        try:
            model = keras.models.load_model(
                os.path.expanduser(name), compile=False, safe_mode=not trusted
            )
            return keras.tree.flatten(model.outputs)[0].shape[-1] == 1
        except Exception:  # which is said when the file is used
            continue
    return False


_loaded = functools.lru_cache(maxsize=1)(own.load_own)


def for_choice(config: Config, dataset: data.Dataset) -> data.Dataset:
    """Returns the data set on which the candidates for beta are trained and scored.

    If the run holds out no images, the last tenth of the training images is held out here. The
    teachers are trained on all, so they know these images: the accuracies are a little too high.

    Raises:
        UserError: too few images.
    """
    return tenth_held_out(dataset) if config.retrains else dataset


def tenth_held_out(dataset: data.Dataset) -> data.Dataset:
    """Returns the data set with the last tenth of its training examples held out."""
    train, count = dataset.train, len(dataset.train)
    kept = count - math.ceil(count / 10)
    if not kept:
        raise UserError(
            f"the choice of the hint weight holds out a tenth of the training images, of which "
            f"there are {count}: give more --train_examples"
        )
    parts: list[data.Split | data.StreamedSplit] = []
    for first, end in ((0, kept), (kept, count)):
        if isinstance(train, data.Split):
            parts.append(data.Split(train.images[first:end], train.labels[first:end]))
        else:
            parts.append(train.part(first, end))
    return dataclasses.replace(dataset, train=parts[0], validation=parts[1])


def check_steps(config: Config, *datasets: data.Dataset) -> None:
    """Raises UserError if an execution of several steps would run across the end of an epoch."""
    numbers = dict.fromkeys(data.steps_per_epoch(each, config.batch_size) for each in datasets)
    if any(steps % (config.steps_per_execution or 1) for steps in numbers):
        shared = math.gcd(*numbers)
        divisors = [str(number) for number in range(1, shared + 1) if shared % number == 0]
        raise UserError(
            f"steps_per_execution is {config.steps_per_execution} but an epoch has "
            f"{' or '.join(map(str, numbers))} steps: give one of {', '.join(divisors)}"
        )

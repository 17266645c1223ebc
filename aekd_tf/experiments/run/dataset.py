"""Loads the data set of a configuration."""

from __future__ import annotations

from aekd_tf import data, models
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
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            train_examples=config.train_examples,
            validation_examples=config.validation_examples,
            image_size=config.image_size,
        )
        for network in {config.student, *config.teachers} & set(models.names()):
            models.check_shape(network, dataset.image_shape)
    except ValueError as error:
        raise UserError(str(error)) from error
    if strategies.is_chief():
        strategies.wait_for_all()
    return dataset


def check_steps(config: Config, dataset: data.Dataset) -> None:
    """Raises UserError if an execution of several steps would run across the end of an epoch."""
    steps = data.steps_per_epoch(dataset, config.batch_size)
    if steps % config.steps_per_execution:
        divisors = [str(number) for number in range(1, steps + 1) if steps % number == 0]
        raise UserError(
            f"steps_per_execution is {config.steps_per_execution} but an epoch has {steps} steps: "
            f"give one of {', '.join(divisors)}"
        )

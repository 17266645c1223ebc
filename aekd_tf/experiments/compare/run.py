"""Computes the missing cells and writes the report."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np

import aekd_tf
from aekd_tf import data
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.compare import cells, report
from aekd_tf.experiments.compare.config import CompareConfig
from aekd_tf.experiments.compare.sweep import Sweep, read_trajectories


def run(config: CompareConfig) -> None:
    """Computes the missing cells and writes the report.

    Raises:
        UserError: an output directory that cannot be written or holds another comparison.
        DataError: the data set is not on disk and cannot be downloaded.
    """
    _check_recipe(config)
    requested = config.cells()
    dataset = None if config.render else _load(config)
    output.make_directory(config.output_dir, "--output_dir")
    with output.locked(config.output_dir, "--output_dir"):
        if dataset is not None:
            output.save_json(_recipe_path(config), _recorded(config))
            Sweep(dataset, config.recipe, config.output_dir, config.teachers_dir).run(requested)
        results = cells.read(os.path.join(config.output_dir, "results.csv"))
        path = os.path.join(config.output_dir, "trajectories.json")
        report.write(config, results, read_trajectories(path))
    finished = sum(cell in results for cell in requested)
    written = "report.html, report.md, table.csv, differences.png"
    print(f"{finished} of {len(requested)} cells; {config.output_dir}: {written}")


def _load(config: CompareConfig) -> data.Dataset:
    recipe = config.recipe
    dataset = data.load(
        config.dataset,
        data_dir=config.data_dir,
        train_examples=recipe.train_examples,
        validation_examples=recipe.validation_examples,
    )
    return dataset if recipe.image_size is None else shrunk(dataset, recipe.image_size)


def shrunk(dataset: data.Dataset, size: int) -> data.Dataset:
    """Returns the data set with images of `size` pixels per side: means of squares of pixels.

    Args:
        dataset: images in memory, whose sides are multiples of `size`.
    """
    factor = dataset.image_shape[0] // size

    def smaller(split: data.Split | data.StreamedSplit) -> data.Split:
        assert isinstance(split, data.Split)
        count, _, _, channels = split.images.shape
        squares = split.images.reshape(count, size, factor, size, factor, channels)
        return data.Split(np.rint(squares.mean((2, 4))).astype(split.images.dtype), split.labels)

    return dataclasses.replace(
        dataset,
        train=smaller(dataset.train),
        validation=smaller(dataset.validation),
        test=smaller(dataset.test),
        crop_padding=dataset.crop_padding // factor,
    )


def _recipe_path(config: CompareConfig) -> str:
    return os.path.join(config.output_dir, "config.json")


def _recorded(config: CompareConfig) -> dict[str, object]:
    recipe = json.loads(json.dumps(dataclasses.asdict(config.recipe)))
    return {"aekd_tf": aekd_tf.__version__, "recipe": {"dataset": config.dataset, **recipe}}


def _check_recipe(config: CompareConfig) -> None:
    """Refuses an output directory whose cells have another data set or other trainings."""
    path = _recipe_path(config)
    if not os.path.exists(path):
        return
    advice = "delete it, or choose another --output_dir"
    known, wanted = output.read_json(path, advice).get("recipe"), _recorded(config)["recipe"]
    assert isinstance(wanted, dict)
    if not isinstance(known, dict):
        raise UserError(f"{path} has no recipe: {advice}")
    differ = [name for name in wanted if known.get(name) != wanted[name]]
    if differ:
        old, new = (", ".join(f"{n}={c.get(n)}" for n in differ) for c in (known, wanted))
        raise UserError(
            f"{config.output_dir} holds a comparison with {old}, this one asks for {new}: choose "
            "another --output_dir"
        )

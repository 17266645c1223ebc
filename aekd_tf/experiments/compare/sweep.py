"""Computes the missing cells, one after the other; all share teachers and their outputs."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import data, models
from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.compare import cells
from aekd_tf.experiments.compare.cells import Cell, Result
from aekd_tf.experiments.compare.kinds import noisy_split
from aekd_tf.experiments.compare.recipes import Recipe
from aekd_tf.experiments.compare.settings import SETTINGS, Setting
from aekd_tf.experiments.compare.teachers import Outputs, TeacherOutputs
from aekd_tf.experiments.compare.training import Accuracy, Trainer
from aekd_tf.experiments.compare.weightings import WEIGHTINGS, HeldOut
from aekd_tf.training.stop import SIGNALS

# Of the first seed, because the others' look much the same.
_SEED_WITH_TRAJECTORY = 0


class Sweep:
    """Runs cells and keeps their results in `<output_dir>/results.csv`.

    Args:
        dataset: data set with its true labels.
        recipe: networks and trainings.
        output_dir: directory of the results.
        teachers_dir: directory of the teachers' files and outputs.
    """

    def __init__(self, dataset: data.Dataset, recipe: Recipe, output_dir: str, teachers_dir: str):
        self.dataset, self.recipe = dataset, recipe
        self.path = os.path.join(output_dir, "results.csv")
        self.trajectories_path = os.path.join(output_dir, "trajectories.json")
        self.results = cells.read(self.path)
        self.trajectories = read_trajectories(self.trajectories_path)
        self._teachers = TeacherOutputs(dataset, recipe, teachers_dir)
        self._accuracy = Accuracy(dataset)
        self._ensemble: tuple[str, Outputs] | None = None
        self._trainer: tuple[tuple[str, str], Trainer] | None = None

    def run(self, requested: list[Cell]) -> None:
        """Computes the missing cells, and writes each result as soon as it is known."""
        missing = sorted(cell for cell in requested if cell not in self.results)
        print(f"{len(requested) - len(missing)} of {len(requested)} cells are finished", flush=True)
        if not missing:
            return
        needed = [
            member
            for name in dict.fromkeys(cell.setting for cell in missing)
            for member in SETTINGS[name].members(self.recipe.size)
        ]
        self._teachers.prepare(needed)
        with tqdm(total=len(missing), desc="cells", unit="cell", ascii=" =") as bar:
            for cell in missing:
                bar.set_postfix_str(f"{cell.setting} {cell.weighting}")
                self.results[cell] = self.compute(cell)
                cells.write(self.results, self.path)
                bar.update()
                SIGNALS.check()

    def compute(self, cell: Cell) -> Result:
        """Computes the result of one cell."""
        begun = time.monotonic()
        setting = SETTINGS[cell.setting]
        outputs = self._outputs(setting)
        batches = self._batches(setting, outputs["train"], cell.seed)
        keep = cell.seed == _SEED_WITH_TRAJECTORY
        trainer = self._trainer_of(cell, outputs)
        network, history = trainer.train(cell.seed, batches, per_epoch=keep)
        if not np.isfinite(history["loss"][-1]):
            raise UserError(f"the student of {cell} has diverged: its loss is not finite")
        columns = [history[f"teacher_weight_{index}"] for index in range(self.recipe.size)]
        weights = np.stack(columns, 1)
        if keep:
            self._keep_trajectory(cell, weights)
        seconds = round(time.monotonic() - begun, 2)
        return Result(self._accuracy(network), tuple(weights.mean(0).tolist()), seconds)

    def _training(self, setting: Setting) -> data.Split | data.StreamedSplit:
        """Returns the training examples with the student's own labels."""
        return noisy_split(self.dataset, "train") if setting.noisy_labels else self.dataset.train

    def _outputs(self, setting: Setting) -> Outputs:
        if self._ensemble is None or self._ensemble[0] != setting.name:
            outputs = self._teachers.of(setting.members(self.recipe.size))
            self._ensemble = setting.name, outputs
        return self._ensemble[1]

    def _batches(self, setting: Setting, outputs: np.ndarray, seed: int) -> Any:
        """Gives all batches of a training, with the teachers' outputs."""
        dataset = dataclasses.replace(self.dataset, train=self._training(setting))
        with tf.device("CPU"):
            stored = tf.constant(outputs)

        def read(view: Any, indices: Any) -> dict[str, Any]:
            return {"teacher_logits": tf.gather(stored[view], indices)}

        batches = data.training_pipeline(
            dataset,
            batch_size=self.recipe.batch_size,
            epochs=self.recipe.epochs,
            seed=seed,
            views=self.recipe.views,
            view_seed=0,
            teacher_outputs=read,
        )
        return batches if setting.labels else batches.map(lambda x, y: (x,))

    def _trainer_of(self, cell: Cell, outputs: Outputs) -> Trainer:
        """Returns the trainer of all seeds of a cell; only that of the last cell is kept."""
        key = cell.setting, cell.weighting
        if self._trainer is None or self._trainer[0] != key:
            recipe = self.recipe
            steps = data.steps_per_epoch(self.dataset, recipe.batch_size)

            def make() -> tuple[keras.Model, keras.Model]:
                return self._distiller(cell, outputs)

            rate = recipe.learning_rate
            self._trainer = key, Trainer(make, recipe, steps, recipe.epochs, rate)
        return self._trainer[1]

    def _distiller(self, cell: Cell, outputs: Outputs) -> tuple[keras.Model, keras.Model]:
        setting, recipe, dataset = SETTINGS[cell.setting], self.recipe, self.dataset
        validation, train = dataset.validation, self._training(setting)
        if setting.noisy_validation:
            validation = noisy_split(dataset, "validation")
        assert isinstance(validation, data.Split)
        assert isinstance(train, data.Split)
        held_out = HeldOut(
            outputs["validation"],
            validation.labels if setting.labels else None,
            np.moveaxis(outputs["train"][0], 1, 0),
            train.labels,
            setting.spoilt_count(recipe.size),
        )
        student = models.create(recipe.student, dataset.num_classes, dataset.image_shape)
        model = EnsembleDistiller(
            student,
            CachedTeachers(recipe.size),
            weighting=WEIGHTINGS[cell.weighting].make(held_out),
            temperature=recipe.temperature,
            student_loss_weight=1.0 if setting.labels else 0.0,
            kd_weight=recipe.kd_weight,
        )
        return model, student

    def _keep_trajectory(self, cell: Cell, weights: np.ndarray) -> None:
        self.trajectories[cell.setting, cell.weighting] = weights.round(4).tolist()
        content = [
            {"setting": setting, "weighting": weighting, "weights": values}
            for (setting, weighting), values in sorted(self.trajectories.items())
        ]
        output.save_json(self.trajectories_path, {"trajectories": content}, indent=None)


Trajectories = dict[tuple[str, str], list[list[float]]]


def read_trajectories(path: str) -> Trajectories:
    """Reads the weights `[epochs, M]` by setting and weighting; none if the file is missing."""
    if not os.path.exists(path):
        return {}
    content = output.read_json(path, "delete it")
    try:
        return {(c["setting"], c["weighting"]): c["weights"] for c in content["trajectories"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}): delete it") from error

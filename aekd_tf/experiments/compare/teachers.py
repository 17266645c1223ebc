"""Trains the teachers of all kinds once, and keeps their outputs on disk."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from aekd_tf import data, models
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.cache.views import Views
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.config import TEACHER_SEEDS
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.compare.kinds import KINDS, derived, training_data
from aekd_tf.experiments.compare.recipes import Recipe
from aekd_tf.experiments.compare.training import Trainer
from aekd_tf.experiments.run import teachers
from aekd_tf.experiments.run.teachers import Teacher
from aekd_tf.training.fit import execution
from aekd_tf.training.global_batch import SupervisedModel

SPLITS = ("train", "validation", "test")
Outputs = dict[str, np.ndarray]


class TeacherOutputs:
    """Outputs of teachers by kind and number; missing teachers are trained first.

    Args:
        dataset: data set with its true labels.
        recipe: networks and trainings.
        directory: directory of the teachers' files; their outputs are in `outputs` in it.
    """

    def __init__(self, dataset: data.Dataset, recipe: Recipe, directory: str):
        self.dataset, self.recipe, self.directory = dataset, recipe, directory
        self._known: dict[tuple[str, int], Outputs] = {}
        self._trainers: dict[tuple[str, int, int], Trainer] = {}

    def prepare(self, members: list[tuple[str, int]]) -> None:
        """Trains the missing teachers among those of `(kind, index)`."""
        trained = [member if member[0] in KINDS else ("good", member[1]) for member in members]
        files = {member: self._teacher(*member) for member in dict.fromkeys(trained)}
        missing = [member for member, teacher in files.items() if not teacher.exists]
        for member, teacher in files.items():
            if member not in missing:
                teachers.check_settings(teacher)
        if not missing:
            return
        output.make_directory(self.directory, "--teachers_dir")
        with (
            output.locked(self.directory, "--teachers_dir"),
            tqdm(total=len(missing), desc="teachers", unit="teacher", ascii=" =") as bar,
        ):
            for member in missing:
                bar.set_postfix_str(files[member].name)
                self._train(*member, files[member])
                bar.update()
        self._trainers.clear()

    def of(self, members: list[tuple[str, int]]) -> Outputs:
        """Returns the outputs of an ensemble, `[M, N, K]` by split; training `[R, N, M, K]`."""
        each = [self._outputs(*member) for member in members]
        gathered = {split: np.stack([one[split] for one in each]) for split in SPLITS}
        gathered["train"] = np.ascontiguousarray(np.moveaxis(gathered["train"], 0, 2))
        return gathered

    def _outputs(self, kind: str, index: int) -> Outputs:
        if kind not in KINDS:
            good = self._outputs("good", index)
            return {split: derived(kind, values) for split, values in good.items()}
        if (kind, index) not in self._known:
            teacher = self._teacher(kind, index)
            self._known[kind, index] = {split: self._cached(teacher, split) for split in SPLITS}
        return self._known[kind, index]

    def _cached(self, teacher: Teacher, split: str) -> np.ndarray:
        """Returns outputs `[N, K]`, and of each view `[R, N, K]` if they are for training."""
        count = self.recipe.views if split == "train" else 1
        cache = TeacherCache(
            os.path.join(self.directory, "outputs"),
            self.dataset,
            Views(count, dtype="float32"),
            split=split,
        )
        cache.fill([teacher.path], [teacher.name], progress=False)
        views = np.stack([cache.logits(view)[0] for view in range(count)])
        return views if split == "train" else views[0]

    def _teacher(self, kind: str, index: int) -> Teacher:
        row, recipe = KINDS[kind], self.recipe
        network = row.network_of(recipe, index)
        name = f"{self.dataset.name}_{network}_{kind}_{index}"
        settings = {
            **dataclasses.asdict(row),
            "dataset": self.dataset.name,
            "network": network,
            "seed": TEACHER_SEEDS + index,
            "epochs": getattr(recipe, row.epochs),
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.teacher_learning_rate,
            "train_examples": len(self.dataset.train),
            "validation_examples": len(self.dataset.validation),
        }
        return Teacher(name, os.path.join(self.directory, f"{name}.keras"), network, settings)

    def _train(self, kind: str, index: int, teacher: Teacher) -> None:
        settings, row = teacher.settings or {}, KINDS[kind]
        seed, batch_size, epochs = (settings[n] for n in ("seed", "batch_size", "epochs"))
        given = training_data(self.dataset, row, index, seed, batch_size)
        steps = data.steps_per_epoch(given, batch_size)
        make = functools.partial(self._make, teacher.network)
        key = teacher.network, execution(steps), epochs * steps
        if key not in self._trainers:
            rate = settings["learning_rate"]
            self._trainers[key] = Trainer(make, self.recipe, steps, epochs, rate)
        batches = data.training_pipeline(given, batch_size=batch_size, epochs=epochs, seed=seed)
        network, history = self._trainers[key].train(seed, batches)
        if not np.isfinite(history["loss"][-1]):
            raise UserError(f"teacher {teacher.name} has diverged: its loss is not finite")
        teachers.save(teacher, network)

    def _make(self, network: str) -> tuple[Any, keras.Model]:
        model = models.create(network, self.dataset.num_classes, self.dataset.image_shape)
        return SupervisedModel(model), model

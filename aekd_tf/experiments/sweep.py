"""Computes the cells of tables and figures that are missing, one after the other.

Teachers and their cached outputs are shared by all cells, and what was traced for a cell serves
all its seeds.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from aekd_tf import checkpoint, data
from aekd_tf.cache import TeacherCache
from aekd_tf.cached_teachers import CachedTeachers
from aekd_tf.experiments import (
    cells,
    distillation,
    grids,
    output,
    strategies,
    students,
    teacher_groups,
    teachers,
    training,
)
from aekd_tf.experiments.authors_solver import UnscaledLibsvm
from aekd_tf.experiments.cells import Cell, Result
from aekd_tf.experiments.config import Config, UserError, family
from aekd_tf.experiments.flags import parse
from aekd_tf.resume import SIGNALS


@dataclasses.dataclass
class Group:
    """Teachers of a group and size, ready to teach."""

    networks: Any
    caches: list[TeacherCache]
    scores: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What the teachers of one training did.

    Attributes:
        weights: `[epochs, M]`.
        cosines: `[M, M]` between their gradients, mean over the last epoch.
    """

    weights: list[list[float]]
    cosines: list[list[float]]


def read_trajectories(path: str) -> dict[Cell, Trajectory]:
    """The trajectories in a file, by cell; none if it is not there.

    Raises:
        UserError: a file that cannot be read.
    """
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return {Cell(**entry.pop("cell")): Trajectory(**entry) for entry in json.load(file)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it") from error


class LastCosines(keras.callbacks.Callback):
    """Keeps the cosines between the teachers' gradients, of the last epoch."""

    def on_test_begin(self, logs: Any = None) -> None:
        # Validation: Keras is about to reset the metrics.
        if hasattr(self.model, "gradient_cosines"):
            self.matrix = self.model.gradient_cosines()


class Sweep:
    """Runs cells and keeps their results in `<output_dir>/results.csv`.

    Args:
        preset: the scale.
        output_dir, teachers_dir, data_dir: directories, the latter may be None.
    """

    def __init__(
        self, preset: grids.Preset, output_dir: str, teachers_dir: str, data_dir: str | None
    ):
        self.preset = preset
        self.output_dir, self.teachers_dir, self.data_dir = output_dir, teachers_dir, data_dir
        self.path = os.path.join(output_dir, "results.csv")
        self.results = cells.read(self.path)
        self.trajectories_path = os.path.join(output_dir, "trajectories.json")
        self.trajectories = read_trajectories(self.trajectories_path)
        self._datasets: dict[str, data.Dataset] = {}
        self._groups: dict[tuple[str, str, str, int], Group] = {}
        self._models: dict[Cell, tuple[Any, Any]] = {}

    def run(self, wanted: list[Cell]) -> None:
        """Computes what is missing of `wanted`; each result is on disk when it is there."""
        missing = [cell for cell in wanted if cell not in self.results]
        print(f"{len(wanted) - len(missing)} of {len(wanted)} cells are there", flush=True)
        if not missing:
            return
        # One ensemble after the other: its outputs and traces are dropped before the next. Hints
        # first: the pass that caches the feature maps caches the logits, too.
        missing.sort(key=lambda c: (c.dataset, c.teachers, c.size, not c.hint_weight))
        with tqdm(total=len(missing), desc="cells", unit="cell", ascii=" =") as bar:
            for cell in missing:
                bar.set_postfix_str(f"{cell.teachers} M={cell.size} {cell.method}")
                self.results[cell] = self.compute(cell)
                cells.write(self.results, self.path)
                bar.update()
                SIGNALS.check()

    def config(self, cell: Cell) -> Config:
        """The configuration of the training of a cell."""
        group = cell.teachers.partition("+")[0] or self.preset.teacher
        networks = self.preset.mixed if group == "mixed" else (group,)
        arguments = [
            f"--dataset={cell.dataset}",
            f"--student={cell.student}",
            f"--teachers={','.join(networks)}",
            f"--ensemble_size={max(1, cell.size)}",
            f"--methods={'average' if cell.method == 'ensemble' else cell.method}",
            f"--tolerance={cell.tolerance or 1.0}",
            f"--batch_gradient={cell.batch_gradient}",
            f"--{'' if cell.normalize else 'no'}normalize",
            f"--seed={cell.seed}",
            *self.preset.flags,
            f"--output_dir={self.output_dir}",
            f"--teachers_dir={self.teachers_dir}",
        ]
        if cell.hint_weight:
            arguments.append(f"--hint_weight={cell.hint_weight}")
        if self.data_dir:
            arguments.append(f"--data_dir={self.data_dir}")
        config = parse(family(cell.dataset), arguments)
        assert config is not None
        # Feature maps are cached once for all students, whether they use them or not.
        return dataclasses.replace(
            config, cache_hints=bool(config.cache_views and cell.hint_weight)
        )

    def compute(self, cell: Cell) -> Result:
        """One cell."""
        config = self.config(cell)
        dataset = self._dataset(config)
        if cell.method == "ensemble":
            begun = time.monotonic()
            scores = self._group(cell, config, dataset).scores
            vote, nothing = scores["majority_vote"], float("nan")
            each = " ".join(f"{accuracy:.4f}" for accuracy in scores["teachers"])
            taken = round(time.monotonic() - begun, 1)
            return Result(vote, nothing, nothing, nothing, nothing, "", each, taken)
        return self._train(cell, config, dataset)

    def _dataset(self, config: Config) -> data.Dataset:
        if config.dataset not in self._datasets:
            self._datasets[config.dataset] = training.load_data(config)
        return self._datasets[config.dataset]

    def _group(self, cell: Cell, config: Config, dataset: data.Dataset) -> Group:
        hinted = "hints" if config.cache_hints else ""
        key = (cell.dataset, cell.teachers, hinted, cell.size)
        if key not in self._groups:
            self._groups.clear()
            self._models.clear()
            found = teacher_groups.plan(config, dataset, cell.teachers)
            teacher_groups.train_missing(config, dataset, found)
            for teacher in found:
                teachers.check_settings(teacher)
            caches = distillation.caches_of(config, dataset)
            for cache in caches:
                distillation.fill(config, found, cache)
            networks: Any = caches[0].teachers if caches else None
            if not caches:
                with strategies.strategy(config.strategy).scope():
                    networks = [teachers.load(teacher, dataset, config) for teacher in found]
            test = caches[-1] if caches else None
            scores = distillation.evaluate(dataset, found, networks, test)
            self._groups[key] = Group(networks, caches, scores)
        return self._groups[key]

    def _train(self, cell: Cell, config: Config, dataset: data.Dataset) -> Result:
        begun = time.monotonic()
        student = students.Student(cell.method, cell.method, cell.hint_weight)
        group = self._group(cell, config, dataset) if cell.teachers else None
        cache = group.caches[0] if group and group.caches else None
        training.start_reproducibly(cell.seed, config.jit_compile)
        fresh = self._model(cell, config, dataset, student, group)
        if cell.traced not in self._models:
            self._models[cell.traced] = self._model(cell, config, dataset, student, group)
        model, network = self._models[cell.traced]
        model.set_weights(fresh[0].get_weights())
        solver = getattr(model, "weighting", None)
        name = "_".join(str(part) for part in dataclasses.astuple(cell)).replace("/", "_")
        # One seed's, as the others look much the same.
        log_dir = None if cell.seed else os.path.join(self.output_dir, "logs", name)
        saved = os.path.join(self.output_dir, f"{name}.checkpoint")
        cosines = LastCosines()
        before = (solver.steps, solver.at_start) if isinstance(solver, UnscaledLibsvm) else (0, 0)
        history, best = training.train(
            model,
            network,
            dataset,
            label=name,
            epochs=config.epochs,
            teacher=False,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=cell.seed,
            log_dir=log_dir,
            checkpoint=saved,
            identity={**config.recorded(), **dataclasses.asdict(cell)},
            checkpoint_every=config.checkpoint_every,
            views=students.views(config, student, cache),
            progress=False,
            more_callbacks=[cosines],
        )
        if cell.seed == 0 and cell.method in grids.ADAPTIVE:
            self._keep_trajectory(cell, history, cosines.matrix)
        at_start = float("nan")
        if isinstance(solver, UnscaledLibsvm):
            at_start = (solver.at_start - before[1]) / (solver.steps - before[0])
        test = data.evaluation_pipeline(dataset, dataset.test)
        last = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
        network.set_weights(best.weights)
        chosen = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
        weights = students.mean_weights(history, "teacher_weight_")
        checkpoint.remove(saved)
        return Result(
            last,
            chosen,
            history["val_accuracy"][-1],
            float(np.mean(history.get("effective_teachers", [np.nan]))),
            at_start,
            " ".join(f"{weight:.4f}" for weight in weights or []),
            "",
            round(time.monotonic() - begun, 1),
        )

    def _keep_trajectory(
        self, cell: Cell, history: dict[str, list[float]], cosines: np.ndarray
    ) -> None:
        columns = [history[f"teacher_weight_{index}"] for index in range(cell.size)]
        weights = np.stack(columns, 1).round(4).tolist()
        self.trajectories[cell] = Trajectory(weights, cosines.round(4).tolist())
        content = [
            {"cell": dataclasses.asdict(known), **dataclasses.asdict(self.trajectories[known])}
            for known in sorted(self.trajectories, key=cells.sort_key)
        ]
        output.save_json(content, self.trajectories_path, indent=None)

    def _model(
        self,
        cell: Cell,
        config: Config,
        dataset: data.Dataset,
        student: students.Student,
        group: Group | None,
    ) -> tuple[Any, Any]:
        """What is fitted, and the network in it, with new weights."""
        with strategies.strategy(config.strategy).scope():
            network = students.create_network(config, dataset)
            networks = group.networks if group else CachedTeachers(1)
            weighting = None
            if cell.solver == "libsvm_unscaled":
                weighting = UnscaledLibsvm(config.tolerance, config.batch_gradient)
            elif cell.solver != config.solver:
                raise UserError(f"unknown solver {cell.solver!r} of a cell")
            model = students.distiller(config, network, networks, student, weighting)
            if not model.built:
                model.build((None, *dataset.image_shape))
        return model, network

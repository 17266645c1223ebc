"""Computes the cells of tables and figures that are missing, one after the other.

All cells share teachers and their cached outputs, and all seeds of a cell share its traces.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from aekd_tf import data
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.experiment_flags import configure
from aekd_tf.experiments.command.presets import Experiment
from aekd_tf.experiments.paper import cells, choice, grids, spoilt_teachers
from aekd_tf.experiments.paper.authors_solver import UnscaledLibsvm
from aekd_tf.experiments.paper.cells import Cell, Result
from aekd_tf.experiments.paper.trajectories import LastCosines, Trajectory, read_trajectories
from aekd_tf.experiments.run import student as one_student
from aekd_tf.experiments.run import teacher_pool, teachers
from aekd_tf.experiments.run.dataset import load_data, tenth_held_out
from aekd_tf.experiments.run.student import Trained
from aekd_tf.experiments.run.students import Student
from aekd_tf.experiments.run.teacher_pool import TeacherPool
from aekd_tf.training import checkpoint
from aekd_tf.training.stop import SIGNALS


class Sweep:
    """Runs cells and keeps their results in `<output_dir>/results.csv`.

    Args:
        preset: the scale.
        output_dir: directory of the results.
        teachers_dir: directory of the teachers' files.
        data_dir: directory of TensorFlow Datasets; None for its default.
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
        self._pools: dict[tuple[str, str, bool, int], TeacherPool] = {}
        self._traced: dict[Cell, Trained] = {}

    def run(self, requested: list[Cell]) -> None:
        """Computes the missing cells, and writes each result as soon as it is known."""
        missing = [cell for cell in requested if cell not in self.results]
        print(f"{len(requested) - len(missing)} of {len(requested)} cells are finished", flush=True)
        if not missing:
            return
        # Sorted by ensemble, because its outputs and traces are dropped before the next. Hints
        # come first, because the pass that caches feature maps caches the logits too.
        missing.sort(key=lambda c: (c.dataset, c.teachers, c.size, not c.hint_weight))
        with tqdm(total=len(missing), desc="cells", unit="cell", ascii=" =") as bar:
            for cell in missing:
                bar.set_postfix_str(f"{cell.teachers} M={cell.size} {cell.method}")
                self.results[cell] = self.compute(cell)
                cells.write(self.results, self.path)
                bar.update()
                SIGNALS.check()

    def config(self, cell: Cell) -> Config:
        """Returns the configuration of a cell's training.

        Raises:
            UserError: candidates for the cell's beta are not finished.
        """
        group = cell.teachers.partition("+")[0] or self.preset.teacher
        settings = {
            "dataset": cell.dataset,
            "student": cell.student,
            "teachers": list(self.preset.mixed) if group == "mixed" else [group],
            "ensemble_size": max(1, cell.size),
            "data_dir": self.data_dir,
            "output_dir": self.output_dir,
            "teachers_dir": self.teachers_dir,
            **self.preset.settings,
        }
        base = configure(
            Experiment("paper", cell.dataset, None, "paper", image_size=True), settings
        )
        return dataclasses.replace(
            base,
            methods=("average" if cell.method == "ensemble" else cell.method,),
            tolerance=cell.tolerance or 1.0,
            batch_gradient=cell.batch_gradient,
            normalize=cell.normalize,
            hint_weight=choice.beta_of(cell, self.results),
            seed=cell.seed,
            # The cache of an ensemble holds feature maps only for the cells with hints.
            cache_hints=bool(base.cache_views and cell.hint_weight),
        )

    def compute(self, cell: Cell) -> Result:
        """Computes the result of one cell."""
        config = self.config(cell)
        dataset = self._dataset(config)
        if cell.method == "ensemble":
            begun = time.monotonic()
            scores = self._pool(cell, config, dataset).scores
            vote, nan = scores["majority_vote"], float("nan")
            accuracies = " ".join(f"{accuracy:.4f}" for accuracy in scores["teachers"])
            seconds = round(time.monotonic() - begun, 1)
            return Result(vote, nan, nan, nan, nan, "", accuracies, seconds)
        return self._train(cell, config, dataset)

    def _dataset(self, config: Config) -> data.Dataset:
        if config.dataset not in self._datasets:
            self._datasets[config.dataset] = load_data(config)
        return self._datasets[config.dataset]

    def _pool(self, cell: Cell, config: Config, dataset: data.Dataset) -> TeacherPool:
        key = (cell.dataset, cell.teachers, config.cache_hints, cell.size)
        if key not in self._pools:
            self._pools.clear()
            self._traced.clear()
            files = spoilt_teachers.plan(config, dataset, cell.teachers)
            for teacher in files:
                if teacher.exists:
                    teachers.check_settings(teacher)
            total = sum(not teacher.exists for teacher in files)
            pool = teacher_pool.prepare(
                config, dataset, files, total, with_models=False, trainer=spoilt_teachers.train
            )
            pool.fill(config, dataset)
            self._pools[key] = pool
        return self._pools[key]

    def _train(self, cell: Cell, config: Config, dataset: data.Dataset) -> Result:
        begun = time.monotonic()
        beta = float(config.hint_weight) if cell.hint_weight else None
        student = Student(cell.method, cell.method, beta)
        pool = self._pool(cell, config, dataset) if cell.teachers else None
        if choice.is_candidate(cell):
            dataset = tenth_held_out(dataset)
        name = "_".join(str(part) for part in dataclasses.astuple(cell)).replace("/", "_")
        # Only the first seed has logs: the others' look much the same.
        log_dir = None if cell.seed else os.path.join(self.output_dir, "logs", name)
        saved = os.path.join(self.output_dir, f"{name}.checkpoint")
        training = dataclasses.replace(
            one_student.training_of(config, name, saved, log_dir, dataclasses.asdict(cell)),
            progress=False,
        )
        traced, cosines = self._traced.get(cell.traced), LastCosines()
        solver = self._authors_solver(cell, config, traced)
        before = (solver.steps, solver.at_start) if solver else (0, 0)
        trained = one_student.train(
            config,
            dataset,
            pool,
            student,
            training,
            weighting=solver,
            traced=traced,
            callbacks=[cosines],
        )
        self._traced[cell.traced] = trained
        history = trained.history
        if cell.seed == 0 and student.method.adaptive and not choice.is_candidate(cell):
            self._keep_trajectory(cell, history, cosines.matrix)
        at_start = float("nan")
        if solver:
            at_start = (solver.at_start - before[1]) / (solver.steps - before[0])
        test = data.evaluation_pipeline(dataset, dataset.test)
        last = trained.model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
        best = validation = float("nan")
        if trained.best.epoch:
            trained.network.set_weights(trained.best.weights)
            best = trained.model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
            validation = history["val_accuracy"][-1]
        weights = one_student.mean_weights(history, "teacher_weight_")
        checkpoint.remove(saved)
        return Result(
            last,
            best,
            validation,
            float(np.mean(history.get("effective_teachers", [np.nan]))),
            at_start,
            " ".join(f"{weight:.4f}" for weight in weights or []),
            "",
            round(time.monotonic() - begun, 1),
        )

    def _authors_solver(
        self, cell: Cell, config: Config, traced: Trained | None
    ) -> UnscaledLibsvm | None:
        """Returns the weighting of a cell with the authors' solver, else None."""
        if cell.solver == "libsvm_unscaled":
            # A trace calls the object that it was traced with, which then does the counting.
            in_trace = traced and traced.model.weighting
            return in_trace or UnscaledLibsvm(config.tolerance, cell.batch_gradient)
        if cell.solver != config.solver:
            raise UserError(f"unknown solver {cell.solver!r} of a cell")
        return None

    def _keep_trajectory(self, cell: Cell, history: dict[str, list[float]], cosines: Any) -> None:
        columns = [history[f"teacher_weight_{index}"] for index in range(cell.size)]
        weights = np.stack(columns, 1).round(4).tolist()
        self.trajectories[cell] = Trajectory(weights, cosines.round(4).tolist())
        content = [
            {"cell": dataclasses.asdict(known), **dataclasses.asdict(self.trajectories[known])}
            for known in sorted(self.trajectories, key=cells.sort_key)
        ]
        output.save_json(self.trajectories_path, content, indent=None)

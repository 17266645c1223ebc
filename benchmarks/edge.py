"""Measures what students lose in files of fewer bits, and in 4 bits, over seeds.

    python benchmarks/edge.py --data=digits
    python benchmarks/edge.py --data=cifar10
    python benchmarks/edge.py --data=mobilenetv2
    python benchmarks/edge.py --render

Each call computes the missing rows of docs/results/edge/<data>.csv, one after the other. Stopped
and started again, it goes on. `--render` writes docs/edge_results.md and docs/edge.png from these
files.

Three teachers are trained once, and all students learn from their cached outputs. A student is
distilled with the default weighting, then exported in several ways. Three of its copies are
trained a second time, at a tenth of the learning rate: one in float, one with the rounding of 8
bits, one with that of 4-bit weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import edge_report
import keras
import numpy as np
import tensorflow as tf
from edge_report_rows import CALIBRATION, PLANS, TEACHERS, VOTE, Key, Plan, Row, read, write
from tqdm import tqdm

from aekd_tf import data, files, models
from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.experiments.compare.run import shrunk
from aekd_tf.experiments.compare.teachers import TeacherOutputs
from aekd_tf.experiments.compare.training import Accuracy, Trainer
from aekd_tf.experiments.compare.weightings import WEIGHTINGS, HeldOut
from aekd_tf.export.fake_quantization import FakeQuantized
from aekd_tf.export.quantize_aware import quantize_aware
from aekd_tf.export.student import export_student
from aekd_tf.teachers.votes import vote_scores

LOWER_RATE = 10
DEFAULT = "agreed"  # the weighting that "auto" stands for with labeled validation data


class Evidence:
    """Computes the rows of one data set.

    Args:
        plan: networks and trainings.
        work: directory of teachers, their outputs, students and files.
        data_dir: directory of TensorFlow Datasets.
    """

    def __init__(self, plan: Plan, work: str, data_dir: str | None):
        self.plan, self.recipe = plan, plan.recipe
        self.dataset = data.load(
            plan.dataset, data_dir=data_dir, train_examples=self.recipe.train_examples
        )
        if self.recipe.image_size is not None:
            self.dataset = shrunk(self.dataset, self.recipe.image_size)
        assert len(self.dataset.test) == plan.test
        self.work = os.path.join(work, plan.name)
        self.teachers_dir = os.path.join(work, f"{plan.dataset}_teachers")
        members = [("good", index) for index in range(self.recipe.size)]
        teachers = TeacherOutputs(self.dataset, self.recipe, self.teachers_dir)
        teachers.prepare(members)
        self.outputs = teachers.of(members)
        with tf.device("CPU"):
            self.stored = tf.constant(self.outputs["train"])
        self.accuracy = Accuracy(self.dataset)
        self.steps = data.steps_per_epoch(self.dataset, self.recipe.batch_size)
        self.trainers: dict[str, Trainer] = {}
        os.makedirs(self.work, exist_ok=True)

    def row(self, key: Key) -> Row:
        """Returns what one file, or one network without a file, reaches and costs."""
        begun = time.monotonic()
        name = key.variant
        if name == VOTE:
            found = self.vote()
        elif name in TEACHERS:
            place = f"{self.dataset.name}_{self.recipe.teacher}_good_{TEACHERS.index(name)}.keras"
            teacher = keras.models.load_model(os.path.join(self.teachers_dir, place))
            found = self.exported(teacher)
        else:
            assert key.seed is not None
            found = self.of_student(name, key.seed)
        return Row(*found, round(time.monotonic() - begun, 1))

    def vote(self) -> tuple[float, None, None]:
        scores = vote_scores(tf.constant(self.outputs["test"]))["majority"].numpy()
        return float(np.mean(scores.argmax(-1) == self.dataset.test.labels)), None, None

    def of_student(self, variant: str, seed: int) -> tuple[float, int | None, float | None]:
        """Returns accuracy, bytes and latency of a student's variant."""
        student = self.student(seed)
        if variant == "float":
            return self.exported(student)
        if variant == "longer":
            return self.exported(self.trained(variant, seed, lambda: self.student(seed)))
        if variant == "int8_aware":
            return self.exported(
                self.trained(variant, seed, lambda: quantize_aware(self.student(seed))),
                quantize="int8",
            )
        if variant == "weights4":
            return self.accuracy(self.rounded(student)), None, None
        if variant == "weights4_aware":
            trained = self.trained(
                variant, seed, lambda: quantize_aware(self.student(seed), weight_bits=4)
            )
            return self.accuracy(trained), None, None
        options = {"calibration": self.examples()} if variant == "int8" else {}
        return self.exported(student, quantize=variant, **options)

    def student(self, seed: int) -> keras.Model:
        """Returns the float student, which is trained if it has no file yet."""
        path = os.path.join(self.work, f"student_{seed}.keras")
        if not os.path.exists(path):
            recipe = self.recipe
            shape = self.dataset.num_classes, self.dataset.image_shape
            network = self.trained("float", seed, lambda: models.create(recipe.student, *shape))
            with files.replacing(path) as temporary:
                network.save(temporary)
        return keras.models.load_model(path, compile=False)

    def trained(self, variant: str, seed: int, start: Callable[[], keras.Model]) -> keras.Model:
        """Returns a network trained from `start`; the next call trains the same one anew."""
        recipe, first = self.recipe, variant == "float"
        epochs = recipe.epochs if first else self.plan.second_epochs
        rate = recipe.learning_rate / (1 if first else LOWER_RATE)
        self.start = start
        if variant not in self.trainers:
            # Ranges freeze between executions, so one must end where the last tenth begins.
            last = max(1, epochs * self.steps // 10)
            execution = None if first else math.gcd(self.steps, last)
            make = self.distiller
            self.trainers[variant] = Trainer(make, recipe, self.steps, epochs, rate, execution)
        begin = 0 if first else recipe.epochs
        network, history = self.trainers[variant].train(seed, self.batches(begin, epochs, seed))
        if not np.isfinite(history["loss"][-1]):
            sys.exit(f"{variant} of seed {seed} has diverged")
        return network

    def batches(self, begin: int, epochs: int, seed: int) -> Any:
        def read(view: Any, indices: Any) -> dict[str, Any]:
            return {"teacher_logits": tf.gather(self.stored[view], indices)}

        return data.training_pipeline(
            self.dataset,
            batch_size=self.recipe.batch_size,
            first_epoch=begin,
            epochs=begin + epochs,
            seed=seed,
            views=self.recipe.views,
            view_seed=0,
            teacher_outputs=read,
        )

    def distiller(self) -> tuple[keras.Model, keras.Model]:
        """Returns a distiller with the default weighting, and the student in it."""
        student, recipe, outputs = self.start(), self.recipe, self.outputs
        dataset = self.dataset
        training = np.moveaxis(outputs["train"][0], 1, 0), dataset.train.labels
        held_out = HeldOut(outputs["validation"], dataset.validation.labels, *training, 0)
        model = EnsembleDistiller(
            student,
            CachedTeachers(recipe.size),
            weighting=WEIGHTINGS[DEFAULT].make(held_out),
            temperature=recipe.temperature,
            kd_weight=recipe.kd_weight,
        )
        return model, student

    def rounded(self, student: keras.Model) -> keras.Model:
        """Returns a student with 4-bit weights that never learned to bear them."""
        network = quantize_aware(student, weight_bits=4)
        for layer in network.layers:
            if isinstance(layer, FakeQuantized) and layer.norm is not None:
                layer.norm.trainable = False  # its statistics stay; ranges move
        for images, _ in self.examples():
            network(images, training=True)
        return network

    def examples(self) -> Any:
        """Returns the first training images, not augmented."""
        train = self.dataset.train
        few = data.Split(train.images[:CALIBRATION], train.labels[:CALIBRATION])
        return data.evaluation_pipeline(self.dataset, few, self.recipe.batch_size)

    def exported(self, network: keras.Model, **options: Any) -> tuple[float, int, float]:
        """Returns accuracy on the whole test set, bytes and latency of a LiteRT file."""
        test = data.evaluation_pipeline(self.dataset, self.dataset.test)
        path = os.path.join(self.work, "student.tflite")
        report = export_student(network, path, format="litert", check_with=test, **options)
        return report["accuracy"], report["bytes"], report["latency_ms"]


def compute(plan: Plan, arguments: argparse.Namespace) -> None:
    path = Path(arguments.results) / f"{plan.name}.csv"
    rows = read(path)
    missing = [key for key in plan.all_keys() if key not in rows]
    print(f"{len(missing)} of {len(plan.all_keys())} rows are missing", flush=True)
    if not missing:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    evidence = Evidence(plan, arguments.work, arguments.data_dir)
    with tqdm(missing, desc=plan.name, unit="row", ascii=" =") as bar:
        for key in bar:
            bar.set_postfix_str(f"{key.variant} {'' if key.seed is None else key.seed}")
            rows[key] = evidence.row(key)
            write(rows, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", choices=PLANS, help="which rows to compute")
    parser.add_argument("--render", action="store_true", help="write the page and the picture")
    parser.add_argument(
        "--results", default=str(edge_report.RESULTS), help="directory of the CSV files"
    )
    parser.add_argument("--work", default="runs/edge", help="directory of networks and outputs")
    parser.add_argument("--data_dir", help="directory of TensorFlow Datasets")
    parser.add_argument("--seeds", type=int, help="compute fewer seeds")
    parser.add_argument("--shorter", type=int, default=1, help="divisor of all trainings, to try")
    arguments = parser.parse_args()
    if arguments.data:
        plan = PLANS[arguments.data].shortened(arguments.shorter)
        seeds = plan.seeds if arguments.seeds is None else min(arguments.seeds, plan.seeds)
        compute(dataclasses.replace(plan, seeds=seeds), arguments)
    if arguments.render:
        edge_report.render(Path(arguments.results))


if __name__ == "__main__":
    main()

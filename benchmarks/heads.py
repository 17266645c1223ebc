"""Compares the distiller with a distillation written by hand, for five kinds of outputs.

    python benchmarks/heads.py docs/heads.md

A small student learns in four ways, from the same initial weights and on the same batches:

- **alone**: from the labels;
- **by hand**, the reference: by a plain Keras training step in the benchmark itself, which
  averages the teachers' losses;
- **AE-KD**: by `EnsembleDistiller(..., weighting="aekd")`, the weighting of the paper;
- **AVER**: by `EnsembleDistiller(..., weighting="average")`. This is the same sum as the
  reference, so that the two differ by rounding alone.

Every seed has its own data, its own teachers and its own initial weights. Student, teachers and
test share no example. Training labels are noisy, except for the digits; test labels are not. A
border of the images to segment does not count (`sample_weight`), nor does the padding of the
sequences (`mask_zero=True`).

Scores are means over the seeds; larger is better. They are accuracies in %, and for the sines
minus 100 times the root mean squared error. Differences are paired by seed, with the half width of
their 95% interval. A method is not below the reference if the mean difference is at least minus
the half width.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits
from tqdm import tqdm

from aekd_tf import EnsembleDistiller
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.experiments.statistics import interval
from aekd_tf.files import write_text

SEEDS, TEACHERS = 8, 3
TEMPERATURE, STUDENT_LOSS_WEIGHT, KD_WEIGHT = 2.0, 0.3, 0.9
LEARNING_RATE = 0.005  # Adam
STUDENT, TEACHER = (400, 8), (600, 32)  # steps, batch size
SIDE, SHAPES = 12, 3  # images to segment, and their classes
LENGTH, TOKENS, TAGS = 8, 12, 4  # sequences; token 0 is padding
METHODS = ("alone", "by hand", "AE-KD", "AVER")

Arrays = tuple[np.ndarray, ...]  # x, y and, for the segmentation, sample weights
Draw = Callable[[int, float], Arrays]  # so many new examples, with so much noise in the labels


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of outputs.

    Attributes:
        title: its name in the table.
        loss: the compiled loss.
        distillation: the distillation loss.
        examples: how many the student, the teachers and the test have.
        noise: of the training labels.
        data: starts to draw examples of a new problem.
        student, teacher: make a network with new weights.
        mask: the positions that count, from inputs and sample weights; None if all count.
    """

    title: str
    loss: keras.losses.Loss
    distillation: str
    examples: tuple[int, int, int]
    noise: float
    data: Callable[[np.random.Generator], Draw]
    student: Callable[[], keras.Model]
    teacher: Callable[[], keras.Model]
    mask: Callable[[Any, Any], Any] = lambda x, weight: None

    def score(self, network: keras.Model, test: Arrays) -> float:
        """Returns the accuracy in %, or minus 100 times the root mean squared error."""
        outputs, y = network(test[0], training=False).numpy(), test[1]
        if self.distillation == "mse":
            return -100 * float(np.sqrt(np.mean((outputs - y) ** 2)))
        right = (outputs > 0) == (y > 0) if outputs.ndim == y.ndim else outputs.argmax(-1) == y
        return 100 * float(np.average(right, weights=self.mask(test[0], test[-1])))


class ByHand(keras.Model):
    """The reference: the plain average of the teachers' losses, added to the compiled loss."""

    def __init__(self, student: keras.Model, teachers: list[keras.Model], task: Task):
        super().__init__()
        self.student, self.teachers, self.task = student, teachers, task

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        targets = [teacher(x, training=False) for teacher in self.teachers]
        with tf.GradientTape() as tape:
            outputs = self.student(x, training=True)
            losses = [self.distance(each, outputs, self.task.mask(x, weight)) for each in targets]
            loss = STUDENT_LOSS_WEIGHT * self.compute_loss(x, y, outputs, weight)
            loss += KD_WEIGHT * tf.add_n(losses) / len(losses)
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}

    def distance(self, teacher: tf.Tensor, student: tf.Tensor, mask: Any) -> tf.Tensor:
        """Returns the mean over each example's positions that count, then over the examples."""
        soft = teacher / TEMPERATURE, student / TEMPERATURE
        if self.task.distillation == "mse":
            losses = tf.reduce_mean((teacher - student) ** 2, -1)
        elif self.task.distillation == "kl":
            target, cross = tf.nn.softmax(soft[0]), tf.nn.softmax_cross_entropy_with_logits
            losses = TEMPERATURE**2 * (cross(target, soft[1]) - cross(target, soft[0]))
        else:
            target, cross = tf.sigmoid(soft[0]), tf.nn.sigmoid_cross_entropy_with_logits
            losses = TEMPERATURE**2 * (cross(target, soft[1]) - cross(target, soft[0]))
            losses = tf.reduce_mean(losses, -1)
        if mask is not None:
            mask, axes = tf.cast(mask, tf.float32), list(range(1, losses.shape.rank))
            losses = tf.reduce_sum(mask * losses, axes) / tf.reduce_sum(mask, axes)
        return tf.reduce_mean(losses)


def labels(chance: np.random.Generator) -> Draw:
    """Draws 12 numbers with five labels, the signs of what a random network gives."""
    first, second = 0.6 * chance.normal(size=(12, 16)), 0.25 * chance.normal(size=(16, 5))

    def draw(count: int, noise: float) -> Arrays:
        x = chance.normal(size=(count, 12))
        values = np.tanh(x @ first) @ second + noise * chance.normal(size=(count, 5))
        return np.float32(x), np.float32(values > 0)

    return draw


def parity(chance: np.random.Generator) -> Draw:
    """Draws digits without replacement; the label is whether the digit is odd."""
    x, y = load_digits(return_X_y=True)
    left = iter(chance.permutation(len(x)))

    def draw(count: int, noise: float) -> Arrays:
        chosen = list(itertools.islice(left, count))
        return np.float32(x[chosen] / 16), np.float32(y[chosen, None] % 2)

    return draw


def shapes(chance: np.random.Generator) -> Draw:
    """Draws images of a square and a disk in noise."""
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def draw(count: int, noise: float) -> Arrays:
        up, left = chance.integers(2, SIDE - 2, (2, 2, count, 1, 1))
        down, right = np.abs(rows - up), np.abs(columns - left)
        y = np.where(np.maximum(down[0], right[0]) <= 2, 1, 0)
        y = np.where(down[1] ** 2 + right[1] ** 2 <= 6, 2, y)
        x = 0.6 * y[..., None] + 0.5 * chance.normal(size=(*y.shape, 1))
        y = np.where(chance.random(y.shape) < noise, chance.integers(0, SHAPES, y.shape), y)
        weight = np.pad(np.ones((count, SIDE - 2, SIDE - 2)), ((0, 0), (1, 1), (1, 1)))
        return np.float32(x), np.int32(y), np.float32(weight)

    return draw


def sines(chance: np.random.Generator) -> Draw:
    """Draws a number and three sines of it, of random frequencies and phases."""
    frequency, phase = chance.uniform(1, 2, 3), chance.uniform(0, 2 * np.pi, 3)

    def draw(count: int, noise: float) -> Arrays:
        x = chance.uniform(-2, 2, (count, 1))
        y = np.sin(frequency * x + phase) + noise * chance.normal(size=(count, 3))
        return np.float32(x), np.float32(y)

    return draw


def tags(chance: np.random.Generator) -> Draw:
    """Draws padded sequences; a token's tag depends on it and on the token before it."""
    table = chance.integers(0, TAGS, (TOKENS, 2))

    def draw(count: int, noise: float) -> Arrays:
        x = chance.integers(1, TOKENS, (count, LENGTH))
        y = table[x, np.pad(x, ((0, 0), (1, 0)))[:, :-1] % 2]
        y = np.where(chance.random(y.shape) < noise, chance.integers(0, TAGS, y.shape), y)
        kept = np.arange(LENGTH) < chance.integers(3, LENGTH + 1, (count, 1))
        return np.int32(x * kept), np.int32(y * kept)

    return draw


def dense(inputs: int, *units: int) -> keras.Model:
    hidden = [layers.Dense(count, "relu") for count in units[:-1]]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(units[-1])])


def convolutional(*filters: int) -> keras.Model:
    hidden = [layers.Conv2D(count, 3, padding="same", activation="relu") for count in filters]
    last = layers.Conv2D(SHAPES, 3, padding="same")
    return keras.Sequential([keras.Input((SIDE, SIDE, 1)), *hidden, last])


def recurrent(units: int) -> keras.Model:
    embedding = layers.Embedding(TOKENS, units, mask_zero=True)
    hidden = layers.GRU(units, return_sequences=True, unroll=True)
    first = keras.Input((LENGTH,), dtype="int32")
    return keras.Sequential([first, embedding, hidden, layers.Dense(TAGS)])


BINARY = keras.losses.BinaryCrossentropy(from_logits=True), "binary_kl"
CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "kl"
TASKS = (
    Task(
        *("five labels", *BINARY, (64, 2000, 2000), 0.5, labels),
        *(lambda: dense(12, 16, 5), lambda: dense(12, 64, 64, 5)),
    ),
    Task(
        *("odd digits, one logit", *BINARY, (64, 800, 900), 0.0, parity),
        *(lambda: dense(64, 8, 1), lambda: dense(64, 64, 64, 1)),
    ),
    Task(
        *("segmentation", *CLASSES, (16, 400, 200), 0.2, shapes),
        *(lambda: convolutional(4), lambda: convolutional(16, 16), lambda x, weight: weight),
    ),
    Task(
        *("three sines", keras.losses.MeanSquaredError(), "mse", (16, 1000, 1000), 0.3, sines),
        *(lambda: dense(1, 16, 3), lambda: dense(1, 64, 64, 3)),
    ),
    Task(
        *("tagging", *CLASSES, (32, 1000, 500), 0.2, tags),
        *(lambda: recurrent(8), lambda: recurrent(24), lambda x, weight: x != 0),
    ),
)


class Trainer:
    """A compiled model that trains a network anew for every seed, with one trace for all."""

    def __init__(self, model: keras.Model, make: Any, loss: Any, plan: tuple[int, int]):
        self.model, self.make, self.plan = model, make, plan
        self.network = getattr(model, "student", model)
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
        model.compile(optimizer, loss, steps_per_execution=plan[0], jit_compile=False)
        optimizer.build(self.network.trainable_variables)
        self.fresh = [variable.numpy() for variable in optimizer.variables]

    def train(self, examples: Arrays, seed: int) -> None:
        """Trains from the seed's weights; every epoch has an order of its own."""
        keras.utils.set_random_seed(seed)
        self.network.set_weights(self.make().get_weights())
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        chance, count = np.random.default_rng(seed), len(examples[0])
        epochs = [chance.permutation(count) for _ in range(np.prod(self.plan) // count + 1)]
        order = np.concatenate(epochs)[: np.prod(self.plan)].reshape(self.plan)
        batches = tf.data.Dataset.from_tensor_slices(tuple(part[order] for part in examples))
        self.model.fit(batches, shuffle=False, verbose=0)


def measure(task: Task, number: int, bar: Any) -> dict[str, list[float]]:
    """Returns per method the scores of all seeds, and as "teachers" the teachers' mean scores."""
    teachers = [task.teacher() for _ in range(TEACHERS)]
    models = {"alone": task.student(), "by hand": ByHand(task.student(), teachers, task)}
    for method, weighting in (("AE-KD", "aekd"), ("AVER", "average")):
        models[method] = EnsembleDistiller(
            *(task.student(), teachers),
            weighting=weighting,
            distillation_loss=task.distillation,
            temperature=TEMPERATURE,
            student_loss_weight=STUDENT_LOSS_WEIGHT,
            kd_weight=KD_WEIGHT,
        )
    trainers = {m: Trainer(models[m], task.student, task.loss, STUDENT) for m in METHODS}
    of_teachers = Trainer(task.teacher(), task.teacher, task.loss, TEACHER)
    scores: dict[str, list[float]] = {name: [] for name in ("teachers", *METHODS)}
    for seed in range(SEEDS):
        draw = task.data(np.random.default_rng([number, seed]))
        few, many, test = map(draw, task.examples, (task.noise, task.noise, 0.0))
        for index, teacher in enumerate(teachers):
            of_teachers.train(many, 1000 + TEACHERS * seed + index)
            teacher.set_weights(of_teachers.network.get_weights())
        scores["teachers"].append(np.mean([task.score(teacher, test) for teacher in teachers]))
        for method, trainer in trainers.items():
            trainer.train(few, seed)
            scores[method].append(task.score(trainer.network, test))
            bar.update()
    return scores


def report(results: list[dict[str, list[float]]]) -> str:
    rows, settings, halves = [], [], {True: [], False: []}
    for task, scores in zip(TASKS, results, strict=True):
        row = [task.title, *(f"{np.mean(values):.2f}" for values in scores.values())]
        for method in ("AE-KD", "AVER"):
            difference, half = interval(np.subtract(scores[method], scores["by hand"]))
            row += [f"{difference:+.2f} +- {half:.2f}", "yes" if difference >= -half else "no"]
            halves[task.distillation == "mse"] += [half] if method == "AE-KD" else []
        rows.append(row)
        sizes = [str(make().count_params()) for make in (task.student, task.teacher)]
        settings.append([task.title, task.distillation, *map(str, task.examples), *sizes])
    header = ["task", "loss", "student's examples", "teachers' examples", "test examples"]
    header += ["student's parameters", "a teacher's parameters"]
    compared = ["AE-KD - by hand", "not below", "AVER - by hand", "not below"]
    lines = [
        "# Five kinds of outputs, against a distillation by hand",
        *str(__doc__).splitlines()[1:],
        "",
        f"All settings were fixed beforehand: {SEEDS} seeds, {TEACHERS} teachers, "
        f"T = {TEMPERATURE:g}, C = 0.6, student_loss_weight = {STUDENT_LOSS_WEIGHT}, kd_weight = "
        f"{KD_WEIGHT}. Adam has learning rate {LEARNING_RATE}. Students take {STUDENT[0]} steps "
        f"of {STUDENT[1]} examples, and teachers {TEACHER[0]} of {TEACHER[1]}.",
        "",
        markdown_table(header, settings, left=2),
        "",
        f"With {SEEDS} seeds this design detects a difference of about {np.mean(halves[False]):.1f}"
        f" points of accuracy, and of about {np.mean(halves[True]):.1f} in the score of the sines. "
        "These are mean half widths of the intervals of AE-KD minus the reference.",
        "",
        markdown_table(["task", "teachers", *METHODS, *compared], rows, left=1),
    ]
    return "\n".join(lines) + "\n"


def main(target: str) -> None:
    # Networks this small compute faster in one thread.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tqdm(total=len(TASKS) * SEEDS * len(METHODS), desc="students", ascii=" =") as bar:
        text = report([measure(task, number, bar) for number, task in enumerate(TASKS)])
    write_text(target, text)
    print(text)
    print(f"{time.process_time():.0f} CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1])

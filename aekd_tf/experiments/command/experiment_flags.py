"""Defines the flags that train teachers and students, and parses them into a Config."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from aekd_tf import models
from aekd_tf.experiments.command.config import LOSSES_OF_CLASSES, Config, resolve
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import Flags
from aekd_tf.experiments.command.main import Command
from aekd_tf.experiments.command.own_settings import add_flags
from aekd_tf.experiments.command.presets import CROSS_VALIDATION, Experiment, shown_default
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.names import WEIGHTINGS


def define(experiment: Experiment) -> Flags:
    """Returns the flags of an experiment."""
    flags = Flags(experiment.name)
    group = "Data and networks"

    def add(kind: str, name: str, default: Any, text: str, **options: Any) -> None:
        shown = shown_default(experiment, name) if default is None else None
        flags.add(group, kind, name, default, text, shown, **options)

    known, own = experiment.datasets, experiment.own_data
    any_set = "digits, cifar10, cifar100, or an image classification set of TensorFlow Datasets."
    if experiment.own_data:
        add_flags(add)
    if experiment.dataset is not None:
        add(
            "string",
            "dataset",
            experiment.dataset,
            f"One of {', '.join(known)}." if known else any_set,
        )
    file = " Or a .keras file, from whose weights each student starts." if own else ""
    add("string", "student", None, f"Network: {', '.join(models.names())}.{file}")
    add(
        "list",
        "teachers",
        None,
        "Network of all teachers, or a comma-separated list with one entry per teacher; an entry "
        "that ends in .keras is a trained model's file.",
    )
    add(
        "integer",
        "ensemble_size",
        None,
        "Number of teachers M. Unset: the number of listed teachers, or 5.",
    )

    group = "Weighting of the teachers"
    add(
        "string",
        "weighting",
        None,
        f"{', '.join(WEIGHTINGS)}. auto: weights per class, chosen on the validation images; aekd: "
        "the paper's; average: AVER. docs/weightings.md has all. Unset: auto, and aekd with the "
        "preset paper.",
    )
    add(
        "list",
        "methods",
        None,
        f"Students to train, by method: {', '.join(METHODS)}. kd has the first teacher alone; "
        "fitnets and aekd_hints use hints, uniform and adaptive. The last student is delivered. "
        "Unset: alone, average, --weighting with aekd before it unless it is average, and with "
        "--hint_weight fitnets and aekd_hints.",
    )
    add(
        "float",
        "tolerance",
        0.6,
        "The cap C on each teacher's weight, from 1/M (the average) to 1.",
        short_name="C",
    )
    add(
        "string",
        "batch_gradient",
        None,
        "mean: gradients averaged over the batch (the authors' code); full: Eq. 15 as written. "
        "Unset: mean, and full with an anchor.",
    )
    add("boolean", "normalize", False, "Scale the teachers' gradients to unit length.")
    solvers = "smo or projected (in the graph), cvxopt or libsvm (outside it)."
    add("string", "solver", "smo", solvers)
    add(
        "float",
        "anchor",
        None,
        "What the teachers are compared with, for the method anchored, else aekd: from 0, what the "
        "student says, to 1, the truth. Unset: 0 for aekd, 1 for anchored.",
    )
    add("float", "anchor_temperature", 1.0, "T of the outputs that are compared with an anchor.")
    add("string", "anchor_to", "labels", "The anchor's truth: labels, or the teachers' vote.")
    add("boolean", "per_example", False, "One program per image, for anchored, else aekd.")

    group = "Loss"
    add(
        "string",
        "distillation_loss",
        None,
        f"What compares student and teachers: {', '.join(LOSSES_OF_CLASSES)}."
        + (" By the head: kl, or binary_kl for labels, or mse for values." if own else ""),
    )
    add("float", "temperature", 4.0, "T of the softened outputs.")
    add("float", "kd_weight", 0.9, "Weight of the distillation loss, lambda of Eq. 7.")
    add("float", "student_loss_weight", 1.0, "Weight of the cross-entropy with the labels.")
    add(
        "string",
        "hint_weight",
        None,
        f"Weight of the hint loss, beta of Eq. 7: a number, or {CROSS_VALIDATION} to choose it "
        "from 0.1, 1, 10, 100, 1000 by validation accuracy, with one more student for each. With "
        "--validation_examples=0 a tenth of the training images is held out for the choice, and "
        "the best is trained anew on all. CIFAR's preset paper chooses it if --methods names "
        "fitnets or aekd_hints.",
    )
    add(
        "list",
        "hint_layers",
        ["stage2"],
        "Layer whose feature map is the hint, in all networks; or the student's and then one per "
        "teacher.",
    )
    add("integer", "hint_first_epoch", 2, "First epoch with hints, counted from 1.")
    add(
        "integer",
        "hint_pooling",
        1,
        "Side of the squares, in pixels, that both feature maps are averaged over before the "
        "comparison.",
    )

    group = "Training"
    add(
        "string",
        "preset",
        experiment.preset,
        "paper: section 4.1's recipe; quick: small networks, minutes on two CPU cores.",
    )
    add("integer", "epochs", None, "Epochs of each student.")
    add("integer", "teacher_epochs", None, "Epochs of each teacher.")
    add("integer", "batch_size", None, "Images per step.")
    add(
        "float",
        "learning_rate",
        None,
        "Learning rate of a student's SGD at the start; x0.1 at the recipe's milestones, in "
        "proportion to the epochs. The recipe's: 0.05, MobileNetV2 0.01, ImageNet 0.1.",
    )
    add("float", "teacher_learning_rate", None, "The same for the teachers.")
    add(
        "boolean",
        "quantize_aware",
        False,
        "Train each student a second time from its weights, with the rounding of its int8 file: a "
        "tenth of the epochs at a tenth of the learning rate. The last one is delivered.",
    )
    add("integer", "weight_bits", 8, "Bits of the kernels in that second training, 2 to 8.")
    if experiment.image_size:
        add("integer", "image_size", None, "Height and width that images are cropped to.")
    add("integer", "train_examples", None, "Number of training images, the first ones.")
    add(
        "integer",
        "validation_examples",
        None,
        "Number of images held out of the training set, 0 for none. Unset: 237 of digits, 5000 of "
        "CIFAR but 0 with its preset paper, a tenth of others but at most 10000.",
    )
    add(
        "integer",
        "seed",
        0,
        "Seed of the students. The teachers' seeds do not depend on it, so runs can share "
        "teachers.",
    )
    add(
        "integer",
        "view_seed",
        None,
        "Seed of the augmented views. Unset: the seed, or 0 with a cache, which all seeds then "
        "share.",
    )
    add(
        "integer",
        "cache_views",
        None,
        "Number of views per image, R, for which the teachers' logits are computed once. Every "
        "student trains on them: epoch e shows view e mod R. 0: run the teachers in every step. "
        "Unset: one view per epoch with the quick preset of digits, else 0.",
    )
    add("string", "cache_dtype", "float16", "Dtype of the cached outputs, float16 or float32.")
    add(
        "boolean",
        "cache_hints",
        False,
        "Also cache the teachers' feature maps, for hints without running the teachers. They are "
        "large (the size is printed first): --hint_pooling=2 makes them a quarter.",
    )
    add(
        "integer",
        "cache_top_k",
        None,
        "For many classes: cache only the k largest logits, the others as one number. Unset: all.",
    )
    add(
        "boolean",
        "jit_compile",
        False,
        "Compile whole training steps with XLA; results then repeat only on the same device.",
    )
    add(
        "string",
        "mixed_precision",
        "none",
        "bfloat16 or float16: the students compute in it and keep float32 weights.",
    )
    add(
        "string",
        "strategy",
        "none",
        "none: one device; mirrored: all GPUs of this machine; multi_worker: the machines of "
        "TF_CONFIG; tpu. The batch size is that of all devices together.",
    )
    add(
        "integer",
        "steps_per_execution",
        None,
        "Steps per call of the compiled training function. With more steps an accelerator waits "
        "less. Unset: many if a step is tiny, else 1.",
    )
    add(
        "string",
        "checkpoint_every",
        None,
        "Steps, or a time such as 10min or 30s, after which a training's state is saved; the same "
        "command goes on from it. Unset: 10min, and 500 steps with strategy=multi_worker.",
    )

    group = "Files"
    add(
        "string",
        "data_dir",
        None,
        "Directory of TensorFlow Datasets. Unset: TFDS_DATA_DIR or its own folder.",
    )
    add(
        "string",
        "output_dir",
        f"runs/{experiment.name}",
        "Directory of results, logs and models. A repeated run reuses what is finished there.",
    )
    add(
        "string",
        "teachers_dir",
        None,
        "Directory of the teachers' files. A missing teacher is trained; delete a file to retrain "
        "it. Unset: <output_dir>/teachers.",
    )
    add(
        "boolean",
        "trust_teachers",
        False,
        "Load teachers' files that contain Python code (Lambda layers): it runs with your rights.",
    )
    add("string", "cache_dir", None, "Directory of the cache. Unset: <teachers_dir>/outputs.")
    return flags


def help_text(experiment: Experiment) -> str:
    """Returns the text of `--help`."""
    flags = define(experiment)
    logs = f"{flags.defaults['output_dir']}/logs"
    return f"{flags.help_text()}\n\nTensorBoard: tensorboard --host=localhost --logdir={logs}"


def parse(experiment: Experiment, arguments: Sequence[str]) -> Config | None:
    """Parses the command line into a Config; None for `--help`.

    Raises:
        UserError: an unknown flag, a value of the wrong kind or out of range.
    """
    given = define(experiment).parse(arguments)
    if given is None:
        return None
    try:
        return resolve(experiment, given)
    except ValueError as error:
        raise UserError(str(error)) from error


def configure(experiment: Experiment, settings: dict[str, Any]) -> Config:
    """Returns the Config for some settings by name, as if the other flags were not given.

    Raises:
        ValueError: a value out of range, or two that contradict each other.
    """
    return resolve(experiment, {**define(experiment).defaults, **settings})


def experiment_command(experiment: Experiment, module: str) -> Command:
    """Returns the command of an experiment; `run(config)` of `module` does its work."""
    return Command(
        functools.partial(parse, experiment), functools.partial(help_text, experiment), module
    )

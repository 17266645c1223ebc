"""The flags that train teachers and students, and the Config they ask for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from aekd_tf import models
from aekd_tf.experiments.command.config import CROSS_VALIDATION, Config, resolve
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import Flags
from aekd_tf.experiments.command.main import Command
from aekd_tf.experiments.command.presets import DEFAULTS, Experiment, family
from aekd_tf.experiments.run.methods import METHODS

_RECIPES = ("epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate")


def define(experiment: Experiment) -> Flags:
    """Returns the flags of an experiment."""
    flags = Flags(experiment.name)
    group = "What is distilled"

    def add(kind: str, name: str, default: Any, text: str, **options: Any) -> None:
        shown = _shown_default(experiment, name) if default is None else None
        flags.add(group, kind, name, default, text, shown, **options)

    known = experiment.datasets
    any_set = "digits, cifar10, cifar100, or an image classification set of TensorFlow Datasets."
    add(
        "string", "dataset", experiment.dataset, f"One of {', '.join(known)}." if known else any_set
    )
    add("string", "student", None, f"Network: {', '.join(models.names())}.")
    add(
        "list",
        "teachers",
        None,
        "Network of all teachers, or a comma-separated list with one entry per teacher; an entry "
        "that ends in .keras is a trained model's file.",
    )
    add("integer", "ensemble_size", None, "Number of teachers M; else as listed, or 5.")

    group = "How teachers are weighted"
    add(
        "string",
        "weighting",
        "aekd",
        "aekd (adaptive), average (AVER), average_outputs (AVER of softened outputs).",
    )
    add(
        "list",
        "methods",
        None,
        f"Students to train, the last to be delivered, of {', '.join(METHODS)} (kd: the first "
        "teacher alone; fitnets, aekd_hints: with hints, uniform or adaptive). Unset: alone, "
        "average, --weighting, and with --hint_weight fitnets and aekd_hints.",
    )
    add(
        "float",
        "tolerance",
        0.6,
        "The cap C on one teacher's weight, from 1/M (the average) to 1.",
        short_name="C",
    )
    add(
        "string",
        "batch_gradient",
        "mean",
        "mean: gradients averaged over the batch (the authors' code); full: Eq. 15 as written.",
    )
    add("boolean", "normalize", False, "Scale the teachers' gradients to unit length.")
    add(
        "string",
        "solver",
        "smo",
        "smo or projected (in the graph), cvxopt or libsvm (outside it).",
    )

    group = "Loss"
    add("float", "temperature", 4.0, "T of the softened outputs.")
    add("float", "kd_weight", 0.9, "Weight of the distillation loss, lambda of Eq. 7.")
    add("float", "student_loss_weight", 1.0, "Weight of the cross-entropy with the labels.")
    add(
        "string",
        "hint_weight",
        "0",
        f"Weight of the hint loss, beta of Eq. 7: a number, or {CROSS_VALIDATION} to choose it "
        "from 0.1, 1, 10, 100, 1000 by validation accuracy, with one more student for each.",
    )
    add(
        "list",
        "hint_layers",
        ["stage2"],
        "Layer whose feature map is the hint, in all networks; or the student's and then one per "
        "teacher.",
    )
    add("integer", "hint_first_epoch", 2, "Epochs before it train without hints.")
    add(
        "integer",
        "hint_pooling",
        1,
        "Average both feature maps over squares of so many pixels before they are compared.",
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
        "Of a student's SGD at the start; x0.1 at the recipe's milestones, in proportion to the "
        "epochs. The recipe's: 0.05, MobileNetV2 0.01, ImageNet 0.1.",
    )
    add("float", "teacher_learning_rate", None, "The same for the teachers.")
    if experiment.image_size:
        add("integer", "image_size", None, "Height and width that images are cropped to.")
    add("integer", "train_examples", None, "Use only the first so many training images.")
    add(
        "integer",
        "validation_examples",
        None,
        "Held out of the training set; unset: 237 of digits, 5000 of CIFAR, a tenth of others "
        "and at most 10000.",
    )
    add(
        "integer",
        "seed",
        0,
        "Of the students. The teachers' seeds do not depend on it, so runs can share teachers.",
    )
    add(
        "integer",
        "view_seed",
        None,
        "Of the augmented views. Unset: the seed, or 0 with a cache, which all seeds then share.",
    )
    add(
        "integer",
        "cache_views",
        None,
        "Compute the teachers' logits once, for so many views of each image, and train every "
        "student on them: epoch e shows view e mod so many. 0: run the teachers in every step. "
        "Unset: one view per epoch with the quick preset of digits, else 0.",
    )
    add("string", "cache_dtype", "float16", "Of the cached outputs; or float32.")
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
        1,
        "Steps per call of the compiled training function; more spare an accelerator waits.",
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
        "Where TensorFlow Datasets keeps its data; unset: TFDS_DATA_DIR or its own folder.",
    )
    add(
        "string",
        "output_dir",
        f"runs/{experiment.name}",
        "Results, logs, models. A run repeated here goes on with what is finished.",
    )
    add(
        "string",
        "teachers_dir",
        None,
        "Teachers' files, made when missing; delete one to retrain it. Unset: "
        "<output_dir>/teachers.",
    )
    add(
        "boolean",
        "trust_teachers",
        False,
        "Load teachers' files that contain Python code (Lambda layers): it runs with your rights.",
    )
    add("string", "cache_dir", None, "Cached logits. Unset: <teachers_dir>/outputs.")
    return flags


def _shown_default(experiment: Experiment, name: str) -> str | None:
    """Returns a default that depends on the preset or on the recipe, in words."""
    presets = DEFAULTS[family(experiment.dataset)]
    other = {**dict.fromkeys(_RECIPES, "the recipe's"), "batch_size": "64"}.get(name)
    if any(name in preset for preset in presets.values()):
        other = "all" if other is None else other
        return ", ".join(f"{preset}: {given.get(name, other)}" for preset, given in presets.items())
    return other


def help_text(experiment: Experiment) -> str:
    """Returns what `--help` prints."""
    flags = define(experiment)
    logs = f"{flags.defaults['output_dir']}/logs"
    return f"{flags.help_text()}\n\nTensorBoard: tensorboard --host=localhost --logdir={logs}"


def parse(experiment: Experiment, arguments: Sequence[str]) -> Config | None:
    """Returns the Config that the command line asks for; None for `--help`.

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
    """Returns the Config of some settings by name, as if the other flags were not given.

    Raises:
        ValueError: a value out of range, or two that contradict each other.
    """
    return resolve(experiment, {**define(experiment).defaults, **settings})


def experiment_command(experiment: Experiment, module: str) -> Command:
    """Returns the command of an experiment, whose work is `run(config)` of `module`."""
    return Command(
        functools.partial(parse, experiment), functools.partial(help_text, experiment), module
    )

"""The experiments' command lines: flags, their help, and the Config they ask for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from aekd_tf import models
from aekd_tf.experiments.config import (
    CROSS_VALIDATION,
    DATASETS,
    DEFAULTS,
    FIRST_DATASET,
    FIRST_PRESET,
    METHODS,
    Config,
    UserError,
    resolve,
)


def define_flags(experiment: str) -> tuple[flags.FlagValues, dict[str, list[str]]]:
    """The flags of one experiment, in a set of their own, and their groups for `--help`."""
    values = flags.FlagValues()
    groups: dict[str, list[str]] = {}

    def add(group: str, kind: str, name: str, default: Any, text: str, **options: Any) -> None:
        presets = DEFAULTS["cifar" if experiment == "teachers" else experiment]
        recipes = ("epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate")
        if default is None and any(name in preset for preset in presets.values()):
            other = "the recipe's" if name in recipes else "64" if name == "batch_size" else "all"
            shown = ", ".join(
                f"{preset}: {given.get(name, other)}" for preset, given in presets.items()
            )
        elif name in recipes:
            shown = "the recipe's"
        elif name == "batch_size":
            shown = "64"
        else:
            listed = ", ".join(default) if isinstance(default, list) else default
            shown = "none" if default is None else str(listed)
        define = getattr(flags, f"DEFINE_{kind}")
        help_text = f"{text} (default {shown})"
        define(name, default, help_text, flag_values=values, **options)
        groups.setdefault(group, []).append(name)

    known = DATASETS[experiment]
    subject = "What is distilled"
    add(
        subject,
        "string",
        "dataset",
        FIRST_DATASET[experiment],
        f"One of {', '.join(known)}."
        if known
        else "digits, cifar10, cifar100, or an image classification set of TensorFlow Datasets.",
    )
    add(subject, "string", "student", None, f"Network: {', '.join(models.names())}.")
    add(
        subject,
        "list",
        "teachers",
        None,
        "Network of all teachers, or a comma-separated list with one entry a teacher; an entry "
        "that ends in .keras is a trained model's file.",
    )
    add(subject, "integer", "ensemble_size", None, "Number of teachers M; else as listed, or 5.")
    weighting = "How teachers are weighted"
    add(
        weighting,
        "string",
        "weighting",
        "aekd",
        "aekd (adaptive), average (AVER), average_outputs (AVER of softened outputs).",
    )
    add(
        weighting,
        "list",
        "methods",
        None,
        f"Students to train, the last to be delivered, of {', '.join(METHODS)} (kd: the first "
        "teacher alone; fitnets, aekd_hints: with hints, uniform or adaptive). Unset: alone, "
        "average, --weighting, and with --hint_weight fitnets and aekd_hints.",
    )
    add(
        weighting,
        "float",
        "tolerance",
        0.6,
        "The cap C on one teacher's weight, from 1/M (the average) to 1.",
        short_name="C",
    )
    add(
        weighting,
        "string",
        "batch_gradient",
        "mean",
        "mean: gradients averaged over the batch (the authors' code); full: Eq. 15 as written.",
    )
    add(weighting, "boolean", "normalize", False, "Scale the teachers' gradients to unit length.")
    add(
        weighting,
        "string",
        "solver",
        "smo",
        "smo or projected (in the graph), cvxopt or libsvm (outside it).",
    )
    loss = "Loss"
    add(loss, "float", "temperature", 4.0, "T of the softened outputs.")
    add(loss, "float", "kd_weight", 0.9, "Weight of the distillation loss, lambda of Eq. 7.")
    add(loss, "float", "student_loss_weight", 1.0, "Weight of the cross-entropy with the labels.")
    add(
        loss,
        "string",
        "hint_weight",
        "0",
        f"Weight of the hint loss, beta of Eq. 7: a number, or {CROSS_VALIDATION} to choose it "
        "from 0.1, 1, 10, 100, 1000 by validation accuracy, one more student for each.",
    )
    add(
        loss,
        "list",
        "hint_layers",
        ["stage2"],
        "Layer whose feature map is the hint, in all networks; or the student's and then one a "
        "teacher.",
    )
    add(loss, "integer", "hint_first_epoch", 2, "Epochs before it train without hints.")
    add(
        loss,
        "integer",
        "hint_pooling",
        1,
        "Average both feature maps over squares of so many pixels before they are compared.",
    )
    training = "Training"
    add(
        training,
        "string",
        "preset",
        FIRST_PRESET[experiment],
        "paper: section 4.1's recipe; quick: small networks, minutes on two CPU cores.",
    )
    add(training, "integer", "epochs", None, "Epochs of each student.")
    add(training, "integer", "teacher_epochs", None, "Epochs of each teacher.")
    add(training, "integer", "batch_size", None, "Images a step.")
    add(
        training,
        "float",
        "learning_rate",
        None,
        "Of a student's SGD at the start; x0.1 at the recipe's milestones, in proportion to the "
        "epochs. The recipe's: 0.05, MobileNetV2 0.01, ImageNet 0.1.",
    )
    add(training, "float", "teacher_learning_rate", None, "The same of the teachers.")
    if experiment in ("imagenet", "teachers"):
        add(training, "integer", "image_size", None, "Height and width that images are cropped to.")
    add(training, "integer", "train_examples", None, "Use only the first so many training images.")
    add(
        training,
        "integer",
        "validation_examples",
        None,
        "Held out of the training set; unset: 237 of digits, 5000 of CIFAR, a tenth of others "
        "and at most 10000.",
    )
    add(
        training,
        "integer",
        "seed",
        0,
        "Of the students. The teachers' seeds do not depend on it, so runs can share teachers.",
    )
    add(
        training,
        "integer",
        "view_seed",
        None,
        "Of the augmented views. Unset: the seed, or 0 with a cache, which all seeds then share.",
    )
    add(
        training,
        "integer",
        "cache_views",
        None,
        "Compute the teachers' logits once, for so many views of each image, and train every "
        "student on them: epoch e shows view e mod so many. 0: run the teachers in every step. "
        "Unset: one view an epoch with the quick preset of digits, else 0.",
    )
    add(training, "string", "cache_dtype", "float16", "Of the cached outputs; or float32.")
    add(
        training,
        "boolean",
        "cache_hints",
        False,
        "Also cache the teachers' feature maps, for hints without running the teachers. They are "
        "large (the size is printed first): --hint_pooling=2 makes them a quarter.",
    )
    add(
        training,
        "integer",
        "cache_top_k",
        None,
        "For many classes: cache only the k largest logits, the others as one number. Unset: all.",
    )
    add(
        training,
        "boolean",
        "jit_compile",
        False,
        "Compile whole training steps with XLA; results then repeat only on the same device.",
    )
    add(
        training,
        "string",
        "mixed_precision",
        "none",
        "bfloat16 or float16: the students compute in it and keep float32 weights.",
    )
    add(
        training,
        "string",
        "strategy",
        "none",
        "none: one device; mirrored: all GPUs of this machine; multi_worker: the machines of "
        "TF_CONFIG; tpu. The batch size is that of all devices together.",
    )
    add(
        training,
        "integer",
        "steps_per_execution",
        1,
        "Steps a call of the compiled training function; more spare an accelerator waits.",
    )
    add(
        training,
        "string",
        "checkpoint_every",
        None,
        "Steps, or a time such as 10min or 30s, after which a training's state is saved; the same "
        "command goes on from it. Unset: 10min, and 500 steps with strategy=multi_worker.",
    )
    files = "Files"
    add(
        files,
        "string",
        "data_dir",
        None,
        "Where TensorFlow Datasets keeps its data; unset: TFDS_DATA_DIR or its own folder.",
    )
    add(
        files,
        "string",
        "output_dir",
        f"runs/{experiment}",
        "Results, logs, models. A run repeated here goes on with what is finished.",
    )
    add(
        files,
        "string",
        "teachers_dir",
        None,
        "Teachers' files, made where missing; delete one to retrain it. Unset: "
        "<output_dir>/teachers.",
    )
    add(
        files,
        "boolean",
        "trust_teachers",
        False,
        "Load teachers' files that contain Python code (Lambda layers): it runs with your rights.",
    )
    add(files, "string", "cache_dir", None, "Cached logits. Unset: <teachers_dir>/outputs.")
    return values, groups


def help_text(experiment: str) -> str:
    """What `--help` prints: our flags alone, by group, each with its default and meaning."""
    values, groups = define_flags(experiment)
    lines = [f"usage: python -m aekd_tf.experiments.{experiment} [--flag=value ...]", ""]
    for group, names in groups.items():
        lines += [group]
        for name in names:
            flag = values[name]
            title = f"  --{name}" + (f", -{flag.short_name}" if flag.short_name else "")
            lines += [
                title,
                *textwrap.wrap(flag.help, 84, initial_indent=" " * 6, subsequent_indent=" " * 6),
            ]
        lines += [""]
    logs = f"{values['output_dir'].default}/logs"
    lines += [f"TensorBoard: tensorboard --host=localhost --logdir={logs}"]
    return "\n".join(lines)


def parse(experiment: str, arguments: Sequence[str]) -> Config | None:
    """The Config that the command line asks for; None for `--help`.

    Raises:
        UserError: an unknown flag, a value of the wrong kind or out of range.
    """
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in arguments):
        return None
    values, _ = define_flags(experiment)
    try:
        rest = values([experiment, *arguments])
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())} (--help lists the flags)") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
    given = values.flag_values_dict()
    try:
        names = _flag_names(experiment)
        return resolve(experiment, {"image_size": None, **{name: given[name] for name in names}})
    except ValueError as error:
        raise UserError(str(error)) from error


def _flag_names(experiment: str) -> list[str]:
    return [name for names in define_flags(experiment)[1].values() for name in names]

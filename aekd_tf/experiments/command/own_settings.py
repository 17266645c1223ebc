"""Completes the settings of a run on a user's own data, and takes its teachers from a file."""

from __future__ import annotations

import os
from typing import Any

from aekd_tf.checks import check_choice
from aekd_tf.data.own import name_of
from aekd_tf.experiments.command import teachers_file
from aekd_tf.experiments.command.presets import Experiment
from aekd_tf.names import AUGMENTATIONS, DATA_HEADS

# Of data of one's own alone.
_USUAL = {"data": None, "label": (), "head": "auto", "augment": "auto", "teachers_file": None}


def add_flags(add: Any) -> None:
    """Defines the flags of own data; `add` takes kind, name, default and text."""
    add(
        "string",
        "data",
        None,
        "Your own data: a folder of images (one folder per class, or train, validation and test "
        "folders of these), tfds:NAME, a .csv table with a header, or a .npz file of x and y, or "
        "of x_train, y_train, x_test and y_test.",
    )
    add(
        "string",
        "teachers_file",
        None,
        'JSON file in place of --teachers: {"teachers": [{"file": "a.keras", ...}]}, with name, '
        "input_size, preprocessing, outputs, output, inputs and class_map of each; a .npy file "
        "holds the outputs of a model of another library.",
    )
    add("list", "label", [], "Label columns of a table. Unset: the column label, else target.")
    add(
        "string",
        "head",
        "auto",
        f"What labels are: {', '.join(DATA_HEADS)}. auto: whole numbers and texts are classes, a "
        "matrix of 0 and 1 independent labels, other numbers values.",
    )
    add(
        "string",
        "augment",
        "auto",
        f"Views of images: {', '.join(AUGMENTATIONS)}. auto: crop by an eighth of the side if all "
        "have one size of at most 64, else resized_crop at --image_size; none for tables.",
    )


def with_data(experiment: Experiment, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the given settings with the name of the data set, and own data's absolute path.

    Raises:
        ValueError: no data set, or one that the command does not take.
    """
    given = {"image_size": None, **_USUAL, **given}
    name = given.get("dataset") or ""
    if given["data"]:
        source = os.path.expanduser(given["data"])
        given["data"] = source if source.startswith("tfds:") else os.path.abspath(source)
        return {**given, "dataset": name_of(source)}
    if experiment.own_data and not name:
        raise ValueError(
            "data is empty: give a folder of images, tfds:NAME, or a .csv or .npz file"
        )
    if experiment.datasets is not None:
        check_choice("dataset", name, experiment.datasets)
    elif not name:
        raise ValueError("dataset is empty: name one, such as cifar10")
    for setting, usual in _USUAL.items():
        if tuple(given[setting] or ()) != tuple(usual or ()):
            raise ValueError(f"{setting} is for data of your own: give --data, or leave it out")
    return given


def take_models(experiment: Experiment, content: dict[str, Any]) -> None:
    """Completes the student and the teachers of a run on own data.

    Raises:
        ValueError: none are given.
        UserError: a file of teachers that cannot be used.
    """
    if experiment.dataset is not None:  # a command that trains no student
        content["student"] = content["student"] or "resnet8"
    if content["teachers_file"]:
        _take_teachers(content)
    elif any(str(name).endswith(".npy") for name in content["teachers"] or ()):
        raise ValueError("teachers names saved outputs (.npy): give them in a --teachers_file")
    for name in ("teachers", "student"):
        if not content[name]:
            raise ValueError(f"{name} is empty: name networks, or give trained .keras files")


def _take_teachers(content: dict[str, Any]) -> None:
    """Takes the teachers of a file; saved outputs belong to inputs that are not augmented."""
    if content["teachers"]:
        raise ValueError("teachers and teachers_file are given: leave one of them out")
    path = os.path.abspath(os.path.expanduser(content["teachers_file"]))
    entries = teachers_file.read(path)
    content["teachers_file"] = path
    content["teachers"] = [entry.file for entry in entries]
    if not any(entry.is_array for entry in entries):
        return
    if content["augment"] == "auto":
        content["augment"] = "none"
    if content["cache_views"] is None:
        content["cache_views"] = 1
    if content["augment"] != "none" or content["cache_views"] != 1:
        raise ValueError(
            "saved outputs belong to inputs that are not augmented: leave augment and cache_views "
            "out"
        )
    content["cache_dtype"] = "float32"

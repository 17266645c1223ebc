"""Exports the student of a run, or of a file, and prints what the export costs."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from aekd_tf import data
from aekd_tf.data.own import load_own
from aekd_tf.data.tfds import first_line
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.export_flags import ExportConfig
from aekd_tf.export.student import export_student

# The library names arguments, but the command has data.
_IN_WORDS = {"check_with": "the test set", "calibration": "the training set"}


def run(config: ExportConfig) -> dict[str, Any]:
    """Exports a student, prints a table and returns the report.

    Raises:
        UserError: a student, a run or settings that cannot be used.
        DataError: the data set cannot be loaded.
    """
    student = _load(config.file)
    dataset = _dataset(config)
    calibration, test = None, None
    if dataset is not None:
        test = data.evaluation_pipeline(dataset, dataset.test)
        if config.quantize == "int8":
            calibration = _calibration(dataset, config.calibration_examples, config.seed)
    elif config.quantize == "int8" and getattr(student, "quantize_aware_bits", None) is None:
        raise UserError(
            "quantize=int8 is calibrated on training images: give --dataset, the student's"
        )
    try:
        report = export_student(
            student,
            config.path,
            format=config.format,
            quantize=config.quantize,
            calibration=calibration,
            check_with=test,
            integer_io=config.integer_io,
            probabilities=config.probabilities,
            threads=config.threads,
        )
    except (ValueError, TypeError, ImportError) as error:
        message = str(error)
        for argument, words in _IN_WORDS.items():
            message = message.replace(f"{argument} has", f"{words} has")
        raise UserError(message) from error
    print(table(config, report))
    if dataset is not None and dataset.content:
        print("\ninputs are taken as they are stored, images from 0 to 255")
    elif dataset is not None:
        print(f"\ninputs are normalized: (x - {_each(dataset.mean)}) / {_each(dataset.std)}")
    return report


def _load(path: str) -> keras.Model:
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist: give the output_dir of a finished run, or a file")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): give a student's .keras file"
        ) from error


def _dataset(config: ExportConfig) -> data.Dataset | None:
    """Returns the data set of the run, or the one that was named; None for none."""
    settings: dict[str, Any] = {"dataset": config.dataset}
    places: dict[str, Any] = {}
    if config.run is not None:
        path = os.path.join(config.run, "config.json")
        content = output.read_json(path, "give the output_dir of a finished run")
        settings, places = content.get("config") or {}, content.get("places") or {}
        if settings.get("data"):
            settings["head"] = (content.get("data") or {}).get("head", settings.get("head"))
            dataset = _own(settings, config.data_dir or places.get("data_dir"))
            if dataset.content != (content.get("data") or {}).get("sha256"):
                raise UserError(
                    f"{settings['data']} has changed since the run in {config.run}: distill again, "
                    "or give --student and no data"
                )
            return dataset
        if not isinstance(settings.get("dataset"), str):
            raise UserError(f"{path} names no data set: give --student and --dataset instead")
    if settings["dataset"] is None:
        return None
    names = ("train_examples", "validation_examples", "image_size")
    try:
        return data.load(
            settings["dataset"],
            data_dir=config.data_dir or places.get("data_dir"),
            **{name: settings.get(name) for name in names},
        )
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def _own(settings: dict[str, Any], data_dir: str | None) -> data.Dataset:
    """Returns the user's own data of a run."""
    return load_own(
        settings["data"],
        label=settings["label"],
        head_name=settings["head"],
        augment=settings["augment"],
        image_size=settings["image_size"],
        data_dir=data_dir,
    ).dataset


def _calibration(dataset: data.Dataset, count: int, seed: int) -> Any:
    """Returns batches of randomly chosen training images, not augmented."""
    train = dataset.train
    if isinstance(train, data.Split):
        chosen = np.random.default_rng(seed).permutation(len(train))[:count]
        return data.evaluation_pipeline(
            dataset, dataclasses.replace(train, images=train.images[chosen],
                                         labels=train.labels[chosen])
        )  # fmt: skip
    images = data.evaluation_pipeline(dataset, train).unbatch()
    return images.shuffle(4 * count, seed=seed).take(count).batch(64)


def table(config: ExportConfig, report: dict[str, Any]) -> str:
    """Formats a report."""
    agreement = {"classes": "same class", "labels": "same labels"}.get(report["head"])
    rows = {
        "file": config.path,
        "format": ", ".join(filter(None, (config.format, config.quantize))),
        "size": f"{report['bytes'] / 1000:.1f} kB",
    }
    if report["accuracy"] is not None:
        rows["accuracy, %"] = f"{100 * report['accuracy']:.2f}"
        rows["the student's, %"] = f"{100 * report['keras_accuracy']:.2f}"
    if agreement is not None:
        rows[f"{agreement}, %"] = f"{100 * report['agreement']:.2f}"
    if report["largest_difference"] is not None:
        rows["largest difference"] = f"{report['largest_difference']:.3g}"
        threads = f"{report['threads']} thread" + ("s" if report["threads"] > 1 else "")
        rows["latency"] = f"{report['latency_ms']:.3f} ms per image, {threads}"
    if report["float_layers"]:
        rows["left in float"] = f"{len(report['float_layers'])} operations, in the report"
    rows["checked"] = report["checked"].replace("check_with", "the test set")
    rows["report"] = f"{config.path}.json"
    return "\n".join(f"{name:<20}{value}" for name, value in rows.items())


def _each(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) if len(values) < 2 else f"{list(values)}"

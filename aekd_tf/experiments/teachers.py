"""Train the teachers that are missing, reuse those that are there.

    python -m aekd_tf.experiments.teachers --dataset=cifar10 --teachers=resnet56 \
        --ensemble_size=25 --output_dir=runs/cifar10
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

from aekd_tf import data, models
from aekd_tf.experiments import output
from aekd_tf.experiments.config import Config, UserError
from aekd_tf.experiments.main import main


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Where one teacher's file is, and how it is trained if it is not there.

    `settings` is None for a file of the user's own.
    """

    name: str
    path: str
    network: str
    settings: dict[str, Any] | None

    @property
    def exists(self) -> bool:
        return os.path.exists(self.path)


def plan(config: Config) -> list[Teacher]:
    """The teachers that `config` asks for."""
    found = []
    for index, network in enumerate(config.networks()):
        if network.endswith(".keras"):
            path = os.path.expanduser(network)
            found.append(Teacher(os.path.basename(path)[: -len(".keras")], path, network, None))
            continue
        settings = {
            "dataset": config.dataset,
            "network": network,
            "seed": index,
            "epochs": config.teacher_epochs,
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "train_examples": config.train_examples,
            "validation_examples": config.validation_examples,
        }
        name = f"{network}_{index}"
        path = os.path.join(config.teachers_dir, f"{config.dataset}_{name}.keras")
        found.append(Teacher(name, path, network, settings))
    return found


def load(teacher: Teacher, dataset: data.Dataset) -> Any:
    """The trained model, checked against the data.

    Raises:
        UserError: the file is missing, unreadable, trained with other settings, or its
            input shape or class count is not the data's.
    """
    import keras

    from aekd_tf.experiments import training  # noqa: F401  registers the optimizer

    advice = "delete it to have it retrained" if teacher.settings else "give a trained .keras file"
    if not teacher.exists:
        raise UserError(f"teacher file {teacher.path} does not exist: {advice}")
    if teacher.settings is not None:
        _check_settings(teacher)
    try:
        model = keras.models.load_model(teacher.path, compile=False)
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(
            f"teacher file {teacher.path} cannot be read ({reason}): {advice}"
        ) from error
    expected = (None, *dataset.image_shape)
    shape = tuple(model.input_shape) if isinstance(model.input_shape, tuple) else model.input_shape
    if shape != expected:
        raise UserError(
            f"teacher file {teacher.path} takes images {shape}, {dataset.name} has {expected}: "
            "use a teacher trained on this data"
        )
    if tuple(model.output_shape) != (None, dataset.num_classes):
        raise UserError(
            f"teacher file {teacher.path} gives outputs {tuple(model.output_shape)}, "
            f"{dataset.name} has {dataset.num_classes} classes: use a teacher trained on this data"
        )
    return model


def _check_settings(teacher: Teacher) -> None:
    path = _settings_path(teacher)
    assert teacher.settings is not None
    try:
        with open(path, encoding="utf-8") as file:
            recorded = json.load(file)
        differ = [k for k, v in teacher.settings.items() if recorded.get(k) != v]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}, which says how {teacher.path} was trained, cannot be read ({error}): delete "
            "both files to have the teacher retrained"
        ) from error
    if differ:
        theirs = ", ".join(f"{name}={recorded.get(name)}" for name in differ)
        ours = ", ".join(f"{name}={teacher.settings[name]}" for name in differ)
        raise UserError(
            f"teacher file {teacher.path} was trained with {theirs}, this run asks for {ours}: "
            "choose another --teachers_dir, or delete the file to have it retrained"
        )


def _settings_path(teacher: Teacher) -> str:
    return teacher.path.removesuffix(".keras") + ".json"


def train(teacher: Teacher, dataset: data.Dataset, label: str, log_dir: str) -> Any:
    """Trains one teacher from its settings and writes its file."""
    from aekd_tf.experiments import training

    settings = teacher.settings
    assert settings is not None
    training.start_reproducibly(settings["seed"])
    model = models.create(teacher.network, dataset.num_classes, dataset.image_shape)
    training.train(
        model,
        model,
        dataset,
        label=label,
        epochs=settings["epochs"],
        teacher=True,
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        seed=settings["seed"],
        log_dir=log_dir,
    )
    # The settings first: a teacher's file never stands without them.
    output.save_json(settings, _settings_path(teacher))
    output.save_model(model, teacher.path)
    return model


def train_or_load(
    config: Config, dataset: data.Dataset, found: list[Teacher], total: int
) -> list[Any]:
    """Every teacher of the plan as a Keras model; `total` is the count the labels show."""
    # Those on disk first: a bad file must show before hours of training.
    ready = {index: load(t, dataset) for index, t in enumerate(found) if t.exists}
    missing = [index for index in range(len(found)) if index not in ready]
    for count, index in enumerate(missing, start=1):
        log_dir = os.path.join(config.output_dir, "logs", f"teacher_{found[index].name}")
        label = f"[{count}/{total}] teacher {found[index].name}"
        ready[index] = train(found[index], dataset, label, log_dir)
    return [ready[index] for index in range(len(found))]


def describe(found: list[Teacher], steps: int) -> list[str]:
    """The plan in words: which teachers exist and what training is to come."""
    missing = [teacher for teacher in found if not teacher.exists]
    lines = []
    if len(missing) < len(found):
        lines.append(f"reusing {len(found) - len(missing)} teachers found on disk")
    if missing:
        epochs = missing[0].settings["epochs"] if missing[0].settings else 0
        names = ", ".join(teacher.name for teacher in missing)
        lines.append(f"training {len(missing)} teachers, {epochs * steps} steps each: {names}")
    return lines


def check_files(found: list[Teacher]) -> None:
    """Raises UserError for a user's own teacher file that is not there."""
    for teacher in found:
        if teacher.settings is None and not teacher.exists:
            raise UserError(
                f"teacher file {teacher.path} does not exist: give a trained .keras file"
            )


def run(config: Config) -> dict[str, float]:
    """Trains what is missing and prints every teacher's test accuracy."""
    from aekd_tf.ensemble import TeacherEnsemble

    found = plan(config)
    check_files(found)
    output.check_output_dir(config)
    dataset = data.load(
        config.dataset,
        data_dir=config.data_dir,
        train_examples=config.train_examples,
        validation_examples=config.validation_examples,
    )
    steps = data.steps_per_epoch(dataset, config.batch_size)
    print("\n".join(describe(found, steps)), flush=True)
    missing = sum(not teacher.exists for teacher in found)
    networks = train_or_load(config, dataset, found, missing)
    scores = TeacherEnsemble(networks).evaluate(data.evaluation_pipeline(dataset, dataset.test))
    accuracies = {t.name: a for t, a in zip(found, scores["teachers"], strict=True)}
    for name, accuracy in accuracies.items():
        print(f"{name:<24}{100 * accuracy:6.2f}%")
    print(f"{'majority vote':<24}{100 * scores['majority_vote']:6.2f}%")
    return accuracies


if __name__ == "__main__":
    sys.exit(main("teachers"))

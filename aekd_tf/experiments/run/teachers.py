"""Loads the teachers of a run from disk, or trains them and writes them there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from aekd_tf import data, models
from aekd_tf.data.tfds import first_line
from aekd_tf.experiments.command import output, strategies, teachers_file
from aekd_tf.experiments.command.config import TEACHER_SEEDS, Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import recipe
from aekd_tf.experiments.command.teachers_file import Entry
from aekd_tf.experiments.run.dataset import load_data
from aekd_tf.outputs import squashing
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.training import checkpoint, fit
from aekd_tf.training.global_batch import SupervisedModel
from aekd_tf.training.heads import HEADS
from aekd_tf.training.stop import SIGNALS

# A plan lists up to so many teachers in full.
LISTED = 4


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The place of one teacher's file, and the settings to train a missing teacher.

    Attributes:
        name: name in results and logs.
        path: path of the `.keras` file.
        network: name of the network, or the file as the user gave it.
        settings: settings of the training; None for a file of the user.
        entry: how a file of the user is to be used, if a file says so.
    """

    name: str
    path: str
    network: str
    settings: dict[str, Any] | None
    entry: Entry | None = None

    @property
    def exists(self) -> bool:
        """Tells whether the teacher's file exists."""
        return os.path.exists(self.path)


def plan(config: Config, dataset: data.Dataset) -> list[Teacher]:
    """Returns the teachers of a configuration.

    Raises:
        UserError: a file of the user is missing.
    """
    if config.teachers_file:
        entries = teachers_file.read(config.teachers_file)
        return [Teacher(each.name, each.file, each.file, None, each) for each in entries]
    teachers: list[Teacher] = []
    for index, network in enumerate(config.networks()):
        if network.endswith(".keras"):
            path = os.path.expanduser(network)
            if not os.path.exists(path):
                raise UserError(f"teacher file {path} does not exist: give a trained .keras file")
            name = os.path.basename(path).removesuffix(".keras")
            name = name if name not in {t.name for t in teachers} else f"{name}_{index}"
            teachers.append(Teacher(name, path, network, None))
            continue
        settings = {
            "dataset": config.dataset,
            "network": network,
            "seed": TEACHER_SEEDS + index,
            "epochs": config.teacher_epochs,
            "batch_size": config.batch_size,
            "learning_rate": config.teacher_learning_rate
            or recipe(config.family, network, teacher=True)["learning_rate"],
            "train_examples": len(dataset.train),
            "validation_examples": len(dataset.validation),
        }
        name = f"{network}_{index}"
        path = os.path.join(config.teachers_dir, f"{config.dataset.replace('/', '_')}_{name}.keras")
        if config.image_size is not None:
            settings["image_size"] = config.image_size
        if config.data:
            settings["data"] = dataset.content
        teachers.append(Teacher(name, path, network, settings))
    return teachers


def load(teacher: Teacher, dataset: data.Dataset, config: Config) -> Any:
    """Loads the trained model and checks it against the data.

    Raises:
        UserError: the file is missing, cannot be read or was trained with other settings; its
            input shape or class count differs from the data's.
    """
    advice = "delete it to have it retrained" if teacher.settings else "give a trained .keras file"
    check_settings(teacher)
    try:
        model = keras.models.load_model(
            teacher.path, compile=False, safe_mode=not config.trust_teachers
        )
    except Exception as error:
        if "safe_mode=False" in str(error):
            raise UserError(
                f"teacher file {teacher.path} contains Python code (a Lambda layer), which would "
                "run with your rights: if you trust its source, give --trust_teachers"
            ) from error
        raise UserError(
            f"teacher file {teacher.path} cannot be read ({first_line(error)}): {advice}"
        ) from error
    expected = (1, dataset.num_classes)
    if config.data and teacher.settings is None:
        model = adapted(model, dataset.head, teacher.entry)
    try:
        given = np.shape(model(np.zeros((1, *dataset.image_shape), np.float32), training=False))
    except Exception as error:
        raise UserError(
            f"teacher file {teacher.path} does not take {dataset.name}'s images "
            f"{dataset.image_shape} ({first_line(error)}): use a teacher trained on this data"
        ) from error
    if given != expected:
        raise UserError(
            f"teacher file {teacher.path} gives outputs {given} for one image, {dataset.name} has "
            f"{dataset.num_classes} classes: use a teacher trained on this data"
        )
    return model


def adapted(model: keras.Model, head: str, entry: Entry | None) -> keras.Model:
    """Returns a user's model to logits, also if its last layer makes probabilities of them."""
    key = None if entry is None else entry.settings.get("output")
    ending = squashing(model, key) if head != "regression" else None
    if entry is not None:
        return entry.adapted(model, ending)
    return model if ending is None else TeacherAdapter(model, outputs="probabilities")


def check_settings(teacher: Teacher) -> None:
    """Raises UserError if a file of this package was trained with other settings."""
    if teacher.settings is None:
        return
    path = _settings_path(teacher)
    advice = f"delete it and {teacher.path} to have the teacher retrained"
    recorded = output.read_json(path, advice)
    differ = [name for name, value in teacher.settings.items() if recorded.get(name) != value]
    if differ:
        old = ", ".join(f"{name}={recorded.get(name)}" for name in differ)
        new = ", ".join(f"{name}={teacher.settings[name]}" for name in differ)
        raise UserError(
            f"teacher file {teacher.path} was trained with {old}, this run asks for {new}: "
            "choose another --teachers_dir, or delete the file to have it retrained"
        )


def _settings_path(teacher: Teacher) -> str:
    return teacher.path.removesuffix(".keras") + ".json"


# One model per network, in which all teachers of that network are trained: tracing a small
# network takes longer than training it.
Traced = dict[str, SupervisedModel]
Trainer = Callable[[Config, data.Dataset, Teacher, str, Traced], Any]


def train(
    config: Config, dataset: data.Dataset, teacher: Teacher, label: str, traced: Traced
) -> keras.Model:
    """Trains one teacher from its settings, writes its file and returns the model."""
    settings = teacher.settings
    assert settings is not None
    fit.start_reproducibly(settings["seed"], config.jit_compile, teacher.network in traced)
    with strategies.strategy(config.strategy).scope():
        model = create(teacher.network, dataset)
        if teacher.network not in traced:
            traced[teacher.network] = SupervisedModel(create(teacher.network, dataset))
    trained = traced[teacher.network].network
    trained.set_weights(model.get_weights())
    usual = recipe(config.family, trained.name, teacher=True)
    training = fit.Training(
        label=label,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        learning_rate=settings["learning_rate"],
        milestones=usual["milestones"],
        l2=usual["l2"],
        checkpoint=teacher.path.removesuffix(".keras") + ".checkpoint",
        identity=settings,
        checkpoint_every=config.checkpoint_every,
        log_dir=os.path.join(config.output_dir, "logs", f"teacher_{teacher.name}"),
        jit_compile=config.jit_compile,
    )
    fit.train(traced[teacher.network], trained, dataset, training)
    model.set_weights(trained.get_weights())
    save(teacher, model)
    if strategies.is_chief():
        checkpoint.remove(training.checkpoint)
    SIGNALS.check()
    return model


def create(network: str, dataset: data.Dataset) -> keras.Model:
    """Returns a network of this package for a data set."""
    return models.create(
        network, dataset.num_classes, dataset.image_shape, normalization=dataset.normalization
    )


def save(teacher: Teacher, model: keras.Model) -> None:
    """Writes a teacher's file."""
    # A teacher's file must never exist without its settings, so they are written first.
    output.save_json(_settings_path(teacher), teacher.settings)
    output.save_model(model, teacher.path)


def train_missing(
    config: Config,
    dataset: data.Dataset,
    files: list[Teacher],
    total: int,
    trainer: Trainer = train,
) -> dict[str, keras.Model]:
    """Trains the teachers that have no file and returns their models by path.

    `total` is the number of trainings, for the labels of progress bars.
    """
    missing = [teacher for teacher in files if not teacher.exists]
    trained: dict[str, keras.Model] = {}
    if not missing:
        return trained
    output.make_directory(config.teachers_dir, "--teachers_dir")
    traced: Traced = {}
    with output.locked(config.teachers_dir, "--teachers_dir"):
        for count, teacher in enumerate(missing, start=1):
            label = f"[{count}/{total}] teacher {teacher.name}"
            trained[teacher.path] = trainer(config, dataset, teacher, label, traced)
    return trained


def train_or_load(
    config: Config,
    dataset: data.Dataset,
    files: list[Teacher],
    total: int,
    trainer: Trainer = train,
) -> list[keras.Model]:
    """Returns every teacher as a Keras model, and trains those that have no file."""
    # A bad file must be noticed before hours of training, so files are loaded first.
    with strategies.strategy(config.strategy).scope():
        ready = {t.path: load(t, dataset, config) for t in files if t.exists}
    ready.update(train_missing(config, dataset, files, total, trainer))
    return [ready[teacher.path] for teacher in files]


def describe(files: list[Teacher], steps: int) -> list[str]:
    """Describes in words which teachers exist and which will be trained."""
    missing = [teacher for teacher in files if not teacher.exists]
    lines = []
    if len(missing) < len(files):
        lines.append(f"reusing {len(files) - len(missing)} teachers found on disk")
    if missing:
        epochs = missing[0].settings["epochs"] if missing[0].settings else 0
        names = [teacher.name for teacher in missing]
        if len(names) > LISTED:
            names[2:-1] = ["..."]
        listed = ", ".join(names)
        lines.append(f"training {len(missing)} teachers, {epochs * steps} steps each: {listed}")
    return lines


def run(config: Config) -> dict[str, float]:
    """Trains the missing teachers, prints how good each is on the test and returns it by name."""
    dataset = load_data(config)
    files = plan(config, dataset)
    output.make_directory(config.output_dir, "--output_dir")
    with output.locked(config.output_dir, "--output_dir"):
        steps = data.steps_per_epoch(dataset, config.batch_size)
        print("\n".join(describe(files, steps)), flush=True)
        missing = sum(not teacher.exists for teacher in files)
        networks = train_or_load(config, dataset, files, missing)
        test = data.evaluation_pipeline(dataset, dataset.test)
        try:
            head = HEADS[dataset.head].ensemble
            scores = TeacherEnsemble(networks, head=head).evaluate(test)
        except ValueError as error:
            raise UserError(str(error)) from error
    found = {t.name: a for t, a in zip(files, scores["teachers"], strict=True)}
    titles = {"majority_vote": "majority vote", "mean": "mean of all"}
    votes = {title: scores[key] for key, title in titles.items() if key in scores}
    for name, value in {**found, **votes}.items():
        shown = f"{value:10.4g}" if "mean" in scores else f"{100 * value:6.2f}%"
        print(f"{name:<24}{shown}")
    return found

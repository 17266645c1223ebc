"""Checks an experiment's settings, completes them from presets, freezes them into a Config."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from aekd_tf import models
from aekd_tf.checks import check_choice, check_number, check_tolerance
from aekd_tf.experiments.command import consistency
from aekd_tf.experiments.command.own_settings import take_models, with_data
from aekd_tf.experiments.command.presets import (
    CROSS_VALIDATION,
    DEFAULTS,
    PRESETS,
    Experiment,
    family,
    recipe,
)
from aekd_tf.experiments.run.methods import ADAPTIVE, HINTED, METHODS
from aekd_tf.names import (
    AUGMENTATIONS,
    BATCH_GRADIENTS,
    CACHE_DTYPES,
    DATA_HEADS,
    DISTILLATION_LOSSES,
    REFERENCE_SOLVERS,
    SOLVERS,
    WEIGHTINGS,
)

PRECISIONS = ("none", "bfloat16", "float16")
# Teacher number m is trained with this seed plus m. With a student's seed it would become the
# student's twin.
TEACHER_SEEDS = 1_000_000
# Of the data sets here, whose labels are classes.
LOSSES_OF_CLASSES = tuple(name for name in DISTILLATION_LOSSES if name != "binary_kl")
_COUNTS = ("hint_first_epoch", "hint_pooling")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of an experiment; the flags of the same names explain them."""

    dataset: str
    student: str
    teachers: tuple[str, ...]
    ensemble_size: int
    methods: tuple[str, ...]
    weighting: str
    tolerance: float
    batch_gradient: str | None
    normalize: bool
    solver: str
    anchor: float | None
    anchor_temperature: float
    anchor_to: str
    per_example: bool
    distillation_loss: str | None
    temperature: float
    kd_weight: float
    hint_weight: float | str
    hint_layers: tuple[str, ...]
    hint_first_epoch: int
    hint_pooling: int
    student_loss_weight: float
    quantize_aware: bool
    weight_bits: int
    preset: str
    epochs: int
    teacher_epochs: int
    batch_size: int
    learning_rate: float
    teacher_learning_rate: float | None
    image_size: int | None
    train_examples: int | None
    validation_examples: int | None
    seed: int
    view_seed: int | None
    cache_views: int
    cache_dtype: str
    cache_hints: bool
    cache_top_k: int | None
    jit_compile: bool
    mixed_precision: str
    strategy: str
    checkpoint_every: str
    trust_teachers: bool
    steps_per_execution: int | None
    data_dir: str | None
    output_dir: str
    teachers_dir: str
    cache_dir: str
    data: str | None = None
    label: tuple[str, ...] = ()
    head: str = "auto"
    augment: str = "auto"
    teachers_file: str | None = None

    PLACES = ("data_dir", "output_dir", "teachers_dir", "cache_dir")
    # Places, safety, the number of devices and of steps per call do not change the results.
    NOT_RECORDED = (
        *PLACES,
        "checkpoint_every",
        "steps_per_execution",
        "trust_teachers",
        "strategy",
    )
    OF_OWN_DATA = ("data", "label", "head", "augment", "teachers_file")

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        if not (self.data and _is_file(self.student)):
            check_choice("network", self.student, models.names())
        for teacher in self.teachers:
            if not _is_file(teacher):
                check_choice("network", teacher, models.names())
        check_choice("weighting", self.weighting, WEIGHTINGS)
        losses = DISTILLATION_LOSSES if self.data else LOSSES_OF_CLASSES
        if self.distillation_loss is not None:
            check_choice("distillation_loss", self.distillation_loss, losses)
        check_choice("head", self.head, DATA_HEADS)
        check_choice("augment", self.augment, AUGMENTATIONS)
        if "average_outputs" in self.methods and self.distillation_loss not in (None, "kl"):
            raise ValueError(
                "average_outputs is the average by distillation_loss=averaged_outputs: leave "
                "distillation_loss out, or use the method average"
            )
        if self.batch_gradient is not None:
            check_choice("batch_gradient", self.batch_gradient, BATCH_GRADIENTS)
        check_choice("solver", self.solver, SOLVERS)
        for method in self.methods:
            check_choice("method", method, METHODS)
        if len(set(self.methods)) < len(self.methods) or not self.methods:
            raise ValueError("methods is empty or names a method twice: name each once")
        consistency.check_anchor(self)
        for name in ("ensemble_size", "epochs", "teacher_epochs", "batch_size", *_COUNTS):
            _check_count(name, getattr(self, name))
        for name in ("train_examples", "image_size", "cache_top_k", "steps_per_execution"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if self.validation_examples is not None:
            _check_count("validation_examples", self.validation_examples, least=0)
        consistency.check_held_out(self)
        if len(self.teachers) not in (1, self.ensemble_size):
            raise ValueError(
                f"ensemble_size is {self.ensemble_size} but teachers names {len(self.teachers)}: "
                "name one network for all, or as many as the ensemble has"
            )
        check_tolerance(self.tolerance, self.ensemble_size if self.ensemble_size > 1 else None)
        check_number("temperature", self.temperature, above_zero=True)
        check_number("learning_rate", self.learning_rate, above_zero=True)
        if self.teacher_learning_rate is not None:
            check_number("teacher_learning_rate", self.teacher_learning_rate, above_zero=True)
        check_number("kd_weight", self.kd_weight)
        consistency.check_hints(self)
        check_number("student_loss_weight", self.student_loss_weight)
        consistency.check_quantization(self)
        if not 0 <= self.seed < TEACHER_SEEDS:
            raise ValueError(f"seed is {self.seed}: give a number from 0 to {TEACHER_SEEDS - 1}")
        if self.view_seed is not None and not 0 <= self.view_seed < TEACHER_SEEDS:
            raise ValueError(
                f"view_seed is {self.view_seed}: give a number from 0 to {TEACHER_SEEDS - 1}"
            )
        if self.cache_views < 0:
            raise ValueError(f"cache_views is {self.cache_views}: give 0 for no cache, or more")
        check_choice("cache_dtype", self.cache_dtype, CACHE_DTYPES)
        for name in ("cache_hints", "cache_top_k"):
            if getattr(self, name) and not self.cache_views:
                raise ValueError(f"{name} needs a cache: give --cache_views, the views per image")
        if self.cache_hints and not set(HINTED) & set(self.methods):
            raise ValueError(
                "cache_hints stores feature maps but no method uses hints: give --hint_weight, or "
                "leave cache_hints out"
            )
        check_choice("mixed_precision", self.mixed_precision, PRECISIONS)
        consistency.check_strategy(self)
        for name in ("output_dir", "teachers_dir", "cache_dir"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give a directory")
        paths = [os.path.realpath(os.path.expanduser(t)) for t in self.networks() if _is_file(t)]
        if len(set(paths)) < len(paths) and not self.teachers_file:
            raise ValueError(
                "teachers names the same .keras file twice: a repeated teacher only counts double, "
                "leave it out"
            )
        solves = set(ADAPTIVE) & set(self.methods)
        if self.jit_compile and solves and self.solver in REFERENCE_SOLVERS:
            raise ValueError(
                f"jit_compile cannot compile solver={self.solver}, which leaves the graph for "
                "Python: use solver=smo or drop jit_compile"
            )

    @property
    def family(self) -> str:
        """Returns the family of the data set: own, digits, mnist1d, cifar or imagenet."""
        return "own" if self.data else family(self.dataset)

    @property
    def anchored_method(self) -> str:
        """Returns the method whose reference the anchor's settings choose."""
        return "anchored" if "anchored" in self.methods else "aekd"

    @property
    def retrains(self) -> bool:
        """Tells whether beta is chosen on a part of the training images, then used on all.

        That is so when a choice is requested and no images are held out.
        """
        chooses = self.hint_weight == CROSS_VALIDATION and bool(set(HINTED) & set(self.methods))
        return chooses and self.validation_examples == 0

    def recorded(self) -> dict[str, Any]:
        """Returns the settings that identify the run: all except those in `NOT_RECORDED`."""
        content = dataclasses.asdict(self)
        left_out = self.NOT_RECORDED if self.data else (*self.NOT_RECORDED, *self.OF_OWN_DATA)
        recorded = {name: value for name, value in content.items() if name not in left_out}
        if self.quantize_aware:  # whose ranges stand still from one execution on
            recorded["steps_per_execution"] = self.steps_per_execution or 1
        return recorded

    def places(self) -> dict[str, str | None]:
        """Returns the absolute folders of data, teachers and cache; None for TFDS's own folder."""
        given = {name: getattr(self, name) for name in self.PLACES if name != "output_dir"}
        given["data_dir"] = given["data_dir"] or os.environ.get("TFDS_DATA_DIR")
        return {name: path and os.path.abspath(path) for name, path in given.items()}

    def networks(self) -> list[str]:
        """Returns the network or file of each teacher."""
        repeats = self.ensemble_size if len(self.teachers) == 1 else 1
        return list(self.teachers) * repeats


def _check_count(name: str, value: int, least: int = 1) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}: give a whole number, at least {least}")


def resolve(experiment: Experiment, given: dict[str, Any]) -> Config:
    """Returns the Config for some flags; the preset and the recipe give the others.

    Raises:
        ValueError: a value out of range, or two that contradict each other.
    """
    check_choice("preset", given["preset"], PRESETS)
    given = with_data(experiment, given)
    usual_settings = {"batch_size": 64, "weighting": "auto", "hint_weight": "0"}
    kind = "own" if given["data"] else family(given["dataset"])
    defaults = {**usual_settings, **DEFAULTS[kind][given["preset"]]}
    if not set(HINTED) & set(given["methods"] or ()):
        defaults["hint_weight"] = "0"  # the preset's would ask for methods with hints
    content: dict[str, Any] = {
        name: defaults.get(name) if value is None else value for name, value in given.items()
    }
    if kind == "own":
        take_models(experiment, content)
    teachers = content["teachers"]
    content["teachers"] = tuple([teachers] if isinstance(teachers, str) else teachers)
    if not all(content["teachers"]) or not content["teachers"]:
        raise ValueError("teachers has an empty entry: name networks, separated by commas")
    if content["ensemble_size"] is None:
        count = len(content["teachers"])
        content["ensemble_size"] = count if count > 1 or _is_file(content["teachers"][0]) else 5
    student = recipe(kind, content["student"], teacher=False)
    teacher = recipe(kind, content["teachers"][0], teacher=True)
    for name, value in {
        "epochs": student["epochs"],
        "learning_rate": student["learning_rate"],
        "teacher_epochs": teacher["epochs"],
    }.items():
        content[name] = value if content[name] is None else content[name]
    if content["cache_views"] is None:
        # A new view every epoch, as without a cache.
        quick_digits = kind == "digits" and content["preset"] == "quick"
        content["cache_views"] = content["epochs"] if quick_digits else 0
    if content["checkpoint_every"] is None:
        content["checkpoint_every"] = "500" if content["strategy"] == "multi_worker" else "10min"
    content["hint_layers"] = tuple(content["hint_layers"])
    content["label"] = tuple(content["label"])
    content["hint_weight"] = _hint_weight(content["hint_weight"])
    hinted = HINTED if content["hint_weight"] else ()
    if not content["data"] and content["distillation_loss"] is None:
        content["distillation_loss"] = "kl"
    adaptive = [] if content["weighting"] == "average" or kind == "own" else ["aekd"]
    usual = dict.fromkeys(["alone", "average", *adaptive, content["weighting"], *hinted])
    content["methods"] = tuple(usual if content["methods"] is None else content["methods"])
    if content["teachers_dir"] is None:
        content["teachers_dir"] = os.path.join(content["output_dir"], "teachers")
    if content["cache_dir"] is None:
        content["cache_dir"] = os.path.join(content["teachers_dir"], "outputs")
    for name in Config.PLACES:
        content[name] = content[name] and os.path.expanduser(content[name])
    return Config(**content)


def _hint_weight(given: str) -> float | str:
    try:
        return float(given)
    except ValueError:
        return given


def _is_file(teacher: str) -> bool:
    return teacher.endswith((".keras", ".npy"))

"""Defines and checks the flags of the export."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from aekd_tf.checks import check_choice
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import Flags
from aekd_tf.names import EXPORT_ENDINGS, EXPORT_FORMATS, QUANTIZATIONS


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """All settings of the command; the flags of the same names explain them."""

    run: str | None
    student: str | None
    dataset: str | None
    format: str
    quantize: str | None
    output: str | None
    calibration_examples: int
    seed: int
    integer_io: bool
    probabilities: bool
    threads: int
    data_dir: str | None
    strategy: str = "none"

    def __post_init__(self) -> None:
        if (self.run is None) == (self.student is None):
            both = "both" if self.run is not None else "neither"
            raise ValueError(
                f"{both} of run and student is given: give --run=DIRECTORY, the output_dir of a "
                "run, or --student=FILE, a .keras file"
            )
        if self.run is not None and self.dataset is not None:
            raise ValueError("dataset is for --student, a run has its own: leave dataset out")
        check_choice("format", self.format, EXPORT_FORMATS)
        if self.quantize is not None:
            check_choice("quantize", self.quantize, QUANTIZATIONS)
            if self.format != "litert":
                raise ValueError(
                    f"quantize={self.quantize} is for LiteRT, but the format is {self.format}: "
                    "give --format=litert, or leave quantize out"
                )
        if self.integer_io and self.quantize != "int8":
            raise ValueError("integer_io is for --quantize=int8: give that, or leave it out")
        for name in ("threads", "calibration_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give a number of at least 0")

    @property
    def file(self) -> str:
        """Returns the path of the student's `.keras` file."""
        return self.student or os.path.join(self.run or "", "student.keras")

    @property
    def path(self) -> str:
        """Returns the path that is written."""
        if self.output is not None:
            return self.output
        folder, name = os.path.split(self.file)
        name = os.path.splitext(name)[0] + (f"_{self.quantize}" if self.quantize else "")
        return os.path.join(folder, "export", name + EXPORT_ENDINGS[self.format])


def define() -> Flags:
    """Returns the command's flags."""
    flags = Flags("export")

    def add(kind: str, name: str, default: Any, text: str) -> None:
        flags.add("", kind, name, default, text)

    add("string", "run", None, "The output_dir of a run, whose student and data set are taken.")
    add("string", "student", None, "A .keras file of a student, or of a distiller, instead.")
    add(
        "string",
        "dataset",
        None,
        "With --student, the data set to calibrate and check with. Unset: none, so the file is "
        "checked on noise.",
    )
    add("string", "format", "litert", f"{', '.join(EXPORT_FORMATS)}.")
    add("string", "quantize", None, f"For litert: {', '.join(QUANTIZATIONS)}. Unset: float32.")
    add(
        "string",
        "output",
        None,
        "File, or folder for saved_model. Unset: export/student[_<quantize>] with the ending of "
        "the format, in the run's folder.",
    )
    add("integer", "calibration_examples", 500, "Training images that int8 is calibrated on.")
    add("integer", "seed", 0, "Seed of the choice of these images.")
    add("boolean", "integer_io", False, "With int8, inputs and outputs are int8, too.")
    add("boolean", "probabilities", False, "Put a softmax behind the student.")
    add("integer", "threads", 1, "Threads of LiteRT and ONNX, for the latency.")
    add(
        "string",
        "data_dir",
        None,
        "Directory of TensorFlow Datasets. Unset: the run's, else TFDS_DATA_DIR or its own folder.",
    )
    return flags


def parse(arguments: Sequence[str]) -> ExportConfig | None:
    """Parses the command line; None for `--help`.

    Raises:
        UserError: an unknown flag, a value out of range, or flags that contradict each other.
    """
    given = define().parse(arguments)
    if given is None:
        return None
    for name in ("run", "student", "output", "data_dir"):
        given[name] = given[name] and os.path.expanduser(given[name])
    try:
        return ExportConfig(**given)
    except ValueError as error:
        raise UserError(str(error)) from error

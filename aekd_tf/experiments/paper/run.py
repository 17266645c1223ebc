"""Computes the missing cells and writes the report."""

from __future__ import annotations

import os

from aekd_tf import files
from aekd_tf.experiments.command import output
from aekd_tf.experiments.paper import figures, grids, questions, tables
from aekd_tf.experiments.paper.cells import Cell
from aekd_tf.experiments.paper.comparisons import Results
from aekd_tf.experiments.paper.config import PaperConfig, requested_cells
from aekd_tf.experiments.paper.render import Code, Heading, Part, Text, markdown, page
from aekd_tf.experiments.paper.sweep import Sweep
from aekd_tf.experiments.paper.trajectories import Trajectory


def run(config: PaperConfig) -> None:
    """Computes the missing cells and writes the report."""
    requested = requested_cells(config)
    output.make_directory(config.output_dir, "--output_dir")
    preset = grids.PRESETS[config.preset]
    with output.locked(config.output_dir, "--output_dir"):
        sweep = Sweep(preset, config.output_dir, config.teachers_dir, config.data_dir)
        if not config.render:
            sweep.run(requested)
        write_report(config, sweep.results, sweep.trajectories)
    finished = sum(cell in sweep.results for cell in requested)
    report = f"{config.output_dir}/report.html, report.md"
    print(f"{finished} of {len(requested)} cells; report: {report}")


def write_report(
    config: PaperConfig, results: Results, trajectories: dict[Cell, Trajectory]
) -> None:
    """Writes `report.md`, `report.html` and their pictures to the output directory."""
    parts = report_parts(config, results, trajectories, config.output_dir)
    title = f"AE-KD, preset {config.preset}"
    for name, text in {
        "report.md": markdown(parts),
        "report.html": page(parts, config.output_dir, title),
    }.items():
        files.write_text(os.path.join(config.output_dir, name), text)


def report_parts(
    config: PaperConfig,
    results: Results,
    trajectories: dict[Cell, Trajectory],
    directory: str,
) -> list[Part]:
    """Returns all requested parts of the report; pictures are written to `directory`."""
    preset = grids.PRESETS[config.preset]
    requested = {"table": config.tables, "figure": config.figures, "question": config.questions}
    options = [f"--{k}={','.join(map(str, v))}" for k, v in requested.items() if v]
    command = ["python -m aekd_tf.experiments.paper", f"--preset={config.preset}", *options]
    parts: list[Part] = [
        Heading(f"AE-KD, preset {config.preset}", 1),
        Code(" ".join([*command, f"--seeds={config.seeds}"])),
        Text(
            "Accuracies are test accuracies in %, with the mean and its 95% interval (Student's "
            "t) over n student seeds. The teachers are the same for all. `minus average` is the "
            "difference, in points, to AVER (for AE-KD* to FitNets) on the same seeds and "
            f"teachers. Every training has the flags `{preset.flags}`; C is {grids.TOLERANCE} "
            "unless it is named. `mean teacher` is the teachers' own mean test accuracy, in the "
            "row of the ensemble's vote."
        ),
    ]
    for number in config.tables:
        parts += tables.table_parts(number, preset, results, directory)
    for number in config.figures:
        parts += figures.figure_parts(number, preset, results, directory)
    for number in config.questions:
        parts += questions.question_parts(number, preset, results, trajectories, directory)
    return parts

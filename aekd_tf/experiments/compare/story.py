"""Asks the results of a preset: which weighting is safe, and who gets the weight."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from aekd_tf.experiments.compare import cells
from aekd_tf.experiments.compare.comparisons import LEAST_GAIN, Comparison, compare, mean
from aekd_tf.experiments.compare.config import parse
from aekd_tf.experiments.compare.settings import SETTINGS
from aekd_tf.experiments.compare.sweep import read_trajectories
from aekd_tf.experiments.compare.weightings import AVERAGE, ORACLE, resolved
from aekd_tf.experiments.statistics import interval

# The rule by which a weighting is safe, beside the oracle's `LEAST_GAIN`.
LEAST_LOWER_END, LEAST_SHARE = -0.7, 0.8


class Story:
    """The results of a preset, as they are in a directory.

    Args:
        preset: name of the preset.
        directory: directory with `results.csv` and `trajectories.json`.

    Attributes:
        config: all settings of the comparison.
        results, trajectories: contents of the files.
        compared: comparisons by setting, without settings that have no results.
        missing: cells without a result.
        complete: settings in which no cell is missing.
    """

    def __init__(self, preset: str, directory: str):
        config = parse([f"--preset={preset}", f"--output_dir={directory}"])
        assert config is not None
        self.config = config
        self.results = cells.read(os.path.join(directory, "results.csv"))
        self.trajectories = read_trajectories(os.path.join(directory, "trajectories.json"))
        compared = self.over(config.seeds, config.settings)
        self.compared = {name: rows for name, rows in compared.items() if rows}
        self.missing = [cell for cell in config.cells() if cell not in self.results]
        gaps = {cell.setting for cell in self.missing}
        self.complete = [name for name in config.settings if name not in gaps]

    def over(self, seeds: Sequence[int], settings: Sequence[str]) -> dict[str, list[Comparison]]:
        """Returns the comparisons over some seeds by setting."""
        config = dataclasses.replace(self.config, seeds=tuple(seeds))
        return {name: compare(config, self.results, name) for name in settings}

    def title(self, setting: str) -> str:
        """Returns the name of a setting in tables."""
        return SETTINGS[setting].shown(self.config.recipe.size)

    def minus(self, setting: str, weighting: str, other: str = AVERAGE) -> np.ndarray:
        """Returns differences in points, paired by seed; empty without pairs."""
        names = [resolved(name, SETTINGS[setting]) for name in (weighting, other)]
        found = [
            [self.results.get(cells.Cell(setting, name, seed)) for name in names]
            for seed in self.config.seeds
        ]
        return 100 * np.array([a.test_accuracy - b.test_accuracy for a, b in found if a and b])

    def pooled(self, weighting: str, other: str) -> np.ndarray:
        """Returns each seed's mean difference over the complete settings."""
        found = [self.minus(setting, weighting, other) for setting in self.complete]
        return np.mean(found, axis=0) if found else np.zeros(0)

    def share(self, setting: str, weighting: str) -> float:
        """Returns the share of the oracle's gain; NaN if that is small or not known."""
        gain = mean(self.minus(setting, ORACLE))
        large = gain >= LEAST_GAIN
        return mean(self.minus(setting, weighting)) / gain if large else float("nan")

    def faults(self, setting: str, weighting: str) -> list[str] | None:
        """Returns what makes a weighting unsafe in a setting; None if that is not known."""
        differences = self.minus(setting, weighting)
        if len(differences) < 2:
            return None
        center, half = interval(differences)
        share = self.share(setting, weighting)
        found = []
        if center - half < LEAST_LOWER_END:
            found.append(f"its interval to AVER begins at {center - half:+.2f} points")
        if share < LEAST_SHARE:
            found.append(f"it has {share:.2f} of the oracle's gain")
        return found

    def spoilt(self, setting: str) -> int:
        """Returns how many of the teachers are spoilt."""
        return SETTINGS[setting].spoilt_count(self.config.recipe.size)

    def spoilt_weight(self, setting: str, weighting: str) -> float:
        """Returns their mean total weight; NaN if it is not known."""
        rows = [row for row in self.compared.get(setting, []) if row.weighting == weighting]
        return rows[0].spoilt_weight if rows else float("nan")

    def spoilt_line(self, setting: str, weighting: str) -> np.ndarray:
        """Returns their total weight per epoch with the first seed; empty if it is not known."""
        key = setting, resolved(weighting, SETTINGS[setting])
        if key not in self.trajectories:
            return np.zeros(0)
        return np.array(self.trajectories[key])[:, : self.spoilt(setting)].sum(1)

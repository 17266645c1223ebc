"""Compares weightings: paired differences, ranks, wins and losses, the power of the design."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from aekd_tf.experiments.compare import weightings
from aekd_tf.experiments.compare.cells import Cell, Result, Results
from aekd_tf.experiments.compare.config import CompareConfig
from aekd_tf.experiments.compare.settings import SETTINGS
from aekd_tf.experiments.statistics import interval

POWER, LEVEL = 0.8, 0.05
# From this gain of the oracle on, its share that a weighting reaches is a figure.
LEAST_GAIN = 2.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A weighting against the average of the same setting and seeds.

    Attributes:
        weighting: name, as asked for.
        accuracies: test accuracies in %, one per seed.
        differences: accuracy minus the average's, in points, over the seeds that both have.
        halves: the same for the first and for the second half of the seeds.
        weights: mean weight of each teacher, `[M]`; empty without any result.
        spoilt: number of spoilt teachers, the first ones.
    """

    weighting: str
    accuracies: np.ndarray
    differences: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    spoilt: int

    @property
    def spoilt_weight(self) -> float:
        """Returns the total weight of the spoilt teachers; NaN without any."""
        known = self.spoilt and len(self.weights)
        return float(self.weights[: self.spoilt].sum()) if known else float("nan")

    @property
    def verdict(self) -> int:
        """Returns 1 if the 95% interval of the differences lies above 0, -1 below, else 0."""
        if len(self.differences) < 2:
            return 0
        mean, half = interval(self.differences)
        return int(mean - half > 0) - int(mean + half < 0)


def compare(config: CompareConfig, results: Results, setting: str) -> list[Comparison]:
    """Returns the requested weightings of a setting that have results, the best first."""
    rows = [_comparison(config, results, setting, name) for name in config.weightings]
    rows = [row for row in rows if len(row.accuracies)]
    return sorted(rows, key=lambda row: -row.accuracies.mean())


def _comparison(config: CompareConfig, results: Results, setting: str, name: str) -> Comparison:
    size, row = config.recipe.size, SETTINGS[setting]
    found: dict[int, Result] = {}
    if weightings.fits(name, row, size):
        resolved = weightings.resolved(name, row)
        found = _by_seed(results, setting, resolved, config.seeds)
    average = _by_seed(results, setting, weightings.AVERAGE, config.seeds)
    half = config.seeds[len(config.seeds) // 2 :]

    def differences(seeds: Sequence[int]) -> np.ndarray:
        both = [seed for seed in seeds if seed in found and seed in average]
        pairs = [(found[seed].test_accuracy, average[seed].test_accuracy) for seed in both]
        return 100 * np.array([first - second for first, second in pairs])

    weights = [result.weights for result in found.values()]
    return Comparison(
        name,
        100 * np.array([result.test_accuracy for result in found.values()]),
        differences(config.seeds),
        (differences([s for s in config.seeds if s not in half]), differences(half)),
        np.mean(weights, 0) if weights else np.zeros(0),
        row.spoilt_count(size),
    )


def _by_seed(
    results: Results, setting: str, weighting: str, seeds: Sequence[int]
) -> dict[int, Result]:
    requested = {seed: Cell(setting, weighting, seed) for seed in seeds}
    return {seed: results[cell] for seed, cell in requested.items() if cell in results}


@dataclasses.dataclass(frozen=True)
class Overall:
    """A weighting over all settings in which it has results.

    Attributes:
        weighting: name.
        rank: mean rank by accuracy, 1 is the best; NaN for the oracle, which is not ranked.
        settings: number of settings.
        wins, losses: settings in which the interval against the average excludes 0.
        lowest: the lowest lower end of an interval, in points.
        share: the least share of the oracle's gain, over the settings in which that is at least
            `LEAST_GAIN` points; NaN without any.
    """

    weighting: str
    rank: float
    settings: int
    wins: int
    losses: int
    lowest: float
    share: float


def overall(compared: dict[str, list[Comparison]]) -> list[Overall]:
    """Returns all weightings over all settings, by mean rank; the oracle comes last."""
    from scipy.stats import rankdata

    ranks: dict[str, list[float]] = {}
    by_name: dict[str, list[Comparison]] = {}
    shares: dict[str, list[float]] = {}
    for rows in compared.values():
        ranked = [row for row in rows if row.weighting != weightings.ORACLE]
        places = rankdata([-row.accuracies.mean() for row in ranked])
        for row, place in zip(ranked, places, strict=True):
            ranks.setdefault(row.weighting, []).append(float(place))
        gain = max(
            (mean(r.differences) for r in rows if r.weighting == weightings.ORACLE), default=0
        )
        for row in rows:
            by_name.setdefault(row.weighting, []).append(row)
            if gain >= LEAST_GAIN:
                shares.setdefault(row.weighting, []).append(mean(row.differences) / gain)
    found = [
        Overall(
            name,
            mean(ranks.get(name, ())),
            len(rows),
            sum(row.verdict > 0 for row in rows),
            sum(row.verdict < 0 for row in rows),
            _least([_lower_end(row.differences) for row in rows]),
            _least(shares.get(name, [])),
        )
        for name, rows in by_name.items()
    ]
    return sorted(found, key=lambda row: (np.isnan(row.rank), row.rank))


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Returns the mean; NaN without values."""
    return float(np.mean(values)) if len(values) else float("nan")


def _least(values: Sequence[float]) -> float:
    """Returns the least of the values that are known; NaN without any."""
    return min((value for value in values if not np.isnan(value)), default=float("nan"))


def _lower_end(values: np.ndarray) -> float:
    if len(values) < 2:
        return float("nan")
    center, half = interval(values)
    return center - half


def smallest_differences(compared: Sequence[Comparison]) -> np.ndarray:
    """Returns the smallest difference to the average that each comparison would see, in points.

    A paired two-sided t-test at level 0.05 finds it with probability 0.8, if the differences
    spread as the measured ones do. Comparisons of fewer than two seeds are left out.
    """
    return np.array(
        [
            np.std(row.differences, ddof=1) * standardized_difference(len(row.differences))
            for row in compared
            if row.weighting != weightings.AVERAGE and len(row.differences) > 1
        ]
    )


@functools.cache
def standardized_difference(count: int) -> float:
    """Returns the difference that `count` pairs show, in standard deviations of a difference."""
    from scipy import optimize, stats

    free = count - 1
    critical = stats.t.ppf(1 - LEVEL / 2, free)

    def missing(difference: float) -> float:
        found = stats.nct.sf(critical, free, difference * np.sqrt(count))  # with the right sign
        return float(found - POWER)

    upper = 0.1
    while missing(upper) < 0:  # SciPy's distribution is NaN far beyond the solution
        upper *= 1.2
    return float(optimize.brentq(missing, 1e-6, upper))

"""Chooses beta for the cells of the paper's preset.

The hint weight of such a cell is `cv`. Its candidates are cells of their own, with the hint weights
`cv=0.1` and so on: students of seed 0, for which the last tenth of the training images is held out.
The best candidate's beta is used on all images, by all seeds.
"""

from __future__ import annotations

import dataclasses

from aekd_tf.experiments.command.consistency import HINT_WEIGHTS
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import CROSS_VALIDATION
from aekd_tf.experiments.paper.cells import CANDIDATE, Cell, Result


def is_candidate(cell: Cell) -> bool:
    """Tells whether the cell is a candidate, which no table reports."""
    return str(cell.hint_weight).startswith(CANDIDATE)


def candidates(cell: Cell) -> list[Cell]:
    """Returns the candidates of a cell; none if nothing is chosen."""
    if cell.hint_weight != CROSS_VALIDATION:
        return []
    names = [f"{CANDIDATE}{beta:g}" for beta in HINT_WEIGHTS]
    return [dataclasses.replace(cell, hint_weight=name, seed=0) for name in names]


def chosen_beta(cell: Cell, results: dict[Cell, Result]) -> float | None:
    """Returns the beta of the best candidate; None without candidates, or if some are missing."""
    found = {each: results.get(each) for each in candidates(cell)}
    scores = {each: row.validation_accuracy for each, row in found.items() if row is not None}
    if not scores or len(scores) < len(found):
        return None
    return beta_of(max(scores, key=lambda each: scores[each]), results)


def beta_of(cell: Cell, results: dict[Cell, Result]) -> float:
    """Returns the hint weight that a cell is trained with; 0 without hints.

    Raises:
        UserError: the cell's candidates are not finished.
    """
    if is_candidate(cell):
        return float(str(cell.hint_weight).removeprefix(CANDIDATE))
    if cell.hint_weight != CROSS_VALIDATION:
        return float(cell.hint_weight or 0.0)
    beta = chosen_beta(cell, results)
    if beta is None:
        raise UserError(f"the candidates for beta of {cell} are not finished: compute them first")
    return beta

"""Reads tables (`.csv`) and arrays (`.npz`) of inputs and labels."""

from __future__ import annotations

import csv
import dataclasses
import zipfile
from collections.abc import Sequence

import numpy as np

from aekd_tf.data.dataset import DataError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Table:
    """Inputs and labels of a file.

    Attributes:
        parts: `(inputs, labels)` by split; those of `"all"` are to be split.
        columns: names of the label columns, if there are any.
        inputs: names of the input columns, if there are any.
    """

    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    columns: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def read_csv(path: str, label: Sequence[str]) -> Table:
    """Reads a table with a header; all columns but the labels' are inputs, which are numbers.

    `label` names the label columns; without, it is the column `label`, else `target`.

    Raises:
        DataError: no such column, a row of another length, an input that is no finite number.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): give a .csv file in UTF-8") from error
    if len(rows) < 2:
        raise DataError(f"{path} has no rows below its header: give a table with a header")
    header = [name.strip() for name in rows[0]]
    again = [name for name in header if header.count(name) > 1]
    if again:
        raise DataError(f"{path} has two columns {again[0]!r}: give each another name")
    columns = [*label] or [name for name in ("label", "target") if name in header]
    if len(columns) > 1 and not label:
        raise DataError(f"{path} has a column 'label' and a column 'target': name the label's")
    missing = [name for name in columns if name not in header]
    if missing or not columns:
        what = f"no column {missing[0]!r}" if missing else "no column 'label' or 'target'"
        raise DataError(f"{path} has {what}, only {', '.join(header)}: name the label's column")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(row)} cells, but the header has {len(header)}: "
                "correct that row"
            )
        for name, cell in zip(header, row, strict=True):
            if name in columns and cell.strip().lower() in ("", "nan", "na", "null", "none"):
                raise DataError(
                    f"{path}, row {number}, column {name!r}: the label is missing: leave it out"
                )
    names = [name for name in header if name not in columns]
    if not names:
        raise DataError(f"{path} has no column besides the labels: give inputs, too")
    content = dict(zip(header, zip(*rows[1:], strict=True), strict=True))
    inputs = np.stack([_numbers(path, name, content[name]) for name in names], axis=1)
    labels = np.array([[cell.strip() for cell in content[name]] for name in columns]).T
    return Table({"all": (inputs, labels)}, tuple(columns), tuple(names))


def _numbers(path: str, name: str, cells: Sequence[str]) -> np.ndarray:
    values = np.empty(len(cells), np.float32)
    for place, cell in enumerate(cells):
        try:
            values[place] = float(cell)
        except ValueError:
            values[place] = np.nan
        if not np.isfinite(values[place]):
            raise DataError(
                f"{path}, row {place + 2}, column {name!r}: {cell!r} is no finite number: give "
                "numbers, or leave the row or the column out"
            )
    return values


def read_npz(path: str) -> Table:
    """Reads arrays `x, y`, or `x_train, y_train[, x_validation, y_validation], x_test, y_test`.

    Raises:
        DataError: other names, pickled objects, unequal lengths, values that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}): give arrays without objects") from error
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if {"x", "y"} <= set(arrays):
        parts["all"] = arrays["x"], arrays["y"]
    elif {"x_train", "y_train", "x_test", "y_test"} <= set(arrays):
        for split in SPLITS:
            if f"x_{split}" in arrays and f"y_{split}" in arrays:
                parts[split] = arrays[f"x_{split}"], arrays[f"y_{split}"]
    else:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}: give x and y, or x_train, y_train, "
            "x_test and y_test"
        )
    for split, (x, y) in parts.items():
        name = "x" if split == "all" else f"x_{split}"
        if not x.ndim or not y.ndim:
            raise DataError(f"{path}: {name} or its labels are one number: give arrays of examples")
        if len(x) != len(y):
            raise DataError(f"{path}: {name} has {len(x)} examples but {len(y)} labels")
        if not len(x):
            raise DataError(f"{path}: {name} has no examples")
        if x.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name} is {x.dtype}: give numbers")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            place = int(np.argwhere(~np.isfinite(x))[0][0])
            raise DataError(
                f"{path}: {name}[{place}] holds values that are not finite: leave it out"
            )
    shapes = {x.shape[1:] for x, _ in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{path}: inputs differ in shape: {', '.join(map(str, shapes))}")
    # Grayscale images lack their channel; signals (length, channels) have few of these.
    made = {split: (x[..., None] if _are_images(x) else x, y) for split, (x, y) in parts.items()}
    return Table(made)


def _are_images(inputs: np.ndarray) -> bool:
    """Returns whether inputs `[N, H, W]` are images, not signals of some channels."""
    return inputs.ndim == 3 and (inputs.dtype.kind in "biu" or min(inputs.shape[1:]) >= 8)

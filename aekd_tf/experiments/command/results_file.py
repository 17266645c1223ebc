"""Reads and writes files of results: CSV, one line per cell."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from aekd_tf import files
from aekd_tf.experiments.command.errors import UserError

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def read(
    path: str, columns: Sequence[str], parse: Callable[[dict[str, str]], tuple[Cell, Result]]
) -> dict[Cell, Result]:
    """Reads results by cell; none if the file is missing.

    Args:
        path: of the file.
        columns: the names in its first line.
        parse: makes a cell and its result from a line.

    Raises:
        UserError: the file cannot be read.
    """
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [*columns]:
                raise ValueError(f"its columns are {reader.fieldnames}")
            return dict(map(parse, reader))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): correct the line, or delete it to have its cell "
            "computed anew"
        ) from error


def write(path: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes the file whole or not at all; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())

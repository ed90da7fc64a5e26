"""The table of a run: one row for each evaluation."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path

from evaluation import metrics
from utils.errors import warn

COLUMNS = ("step", "lr", "train_loss", "train_acc")  # then those of the metrics
_DRAWN = ("train_loss", "train_acc", "val_loss", "val_acc")


def read_rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """Return the rows of a run's table in order of step; none when there is no table yet.

    A table that was saved by a spreadsheet is accepted: with a byte-order mark, other separators, decimal commas, more
    columns. A row without a step or without the numbers that are drawn is left out with a warning.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = content.decode(encoding, "replace").replace("\0", "")
    rows, damaged = {}, 0
    for row in _raw_rows(text):
        if _is_whole(row):
            rows[int(float(row["step"]))] = {**row, "step": str(int(float(row["step"])))}
        else:
            damaged += 1
    if damaged or (text.strip() and not rows):
        warn(f"{path}: damaged; rows left out of it: {damaged}, rows kept: {len(rows)}")
    return [rows[step] for step in sorted(rows)]


def _raw_rows(text: str) -> Iterator[dict[str, str]]:
    """Yield the cells of each row by column; of a column that is not there they are empty."""
    known = (*COLUMNS, *metrics.columns())
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator):
            cells = {name: (row.get(name) or "").strip() for name in known}
            yield cells if separator == "," else {name: cell.replace(",", ".") for name, cell in cells.items()}
    except csv.Error:  # what follows cannot be told apart
        yield {}


def _is_whole(row: dict[str, str]) -> bool:
    try:
        step = float(row["step"])
        return all(math.isfinite(float(row[name])) for name in _DRAWN) and step.is_integer() and 0 < step < 2**53
    except (KeyError, ValueError):
        return False

"""The published numbers that a recipe is compared with, from a CSV table beside it."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from reproduction.values import mapping, shown, text
from utils.errors import UsageError

if TYPE_CHECKING:
    from reproduction.recipes import Cell, Recipe


def read_published(recipe: Recipe, value: object) -> dict[tuple[Cell, str], tuple[str, str]]:
    """Return the published number and its deviation as text, by cell and measure."""
    where = f"{recipe.path}: published"
    value = {
        key: text(entry, f"{where}: {key}") for key, entry in mapping(value, where, ("file", *recipe.axes)).items()
    }
    path = recipe.path.parent / value.get("file", "")
    rows = _rows(path, where)
    wanted = {axis: column for axis, column in value.items() if axis != "file"}
    published = {}
    for cell in recipe.cells():
        names = {
            wanted[axis]: entries[key].get("published", entries[key]["title"])
            for (axis, entries), key in zip(recipe.axes.items(), cell)
            if axis in wanted
        }
        for measure, entry in recipe.measures.items():
            mean, _, deviation = entry.get("published", "").partition(" ")
            there = rows[0] if rows else []
            absent = [column for column in (*names, mean, deviation) if column and column not in there]
            if absent:
                raise UsageError(f"{where}: {path}: no column {absent[0]}; there are {', '.join(there)}")
            matches = [row for row in rows if all(row[column] == name for column, name in names.items())]
            if mean and len(matches) == 1:
                pair = (matches[0][mean], matches[0][deviation] if deviation else "")
                _check_numbers(pair, f"{where}: {path}: {' '.join(cell)}")
                published[cell, measure] = pair
    return published


def _rows(path: Path, where: str) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {path} is not a CSV table in UTF-8: {error}") from None
    return rows


def _check_numbers(texts: tuple[str, ...], where: str) -> None:
    for entry in filter(None, texts):
        try:
            finite = math.isfinite(float(entry))
        except ValueError:
            finite = False
        if not finite:
            raise UsageError(f"{where}: {shown(entry)}: accepted are finite numbers")

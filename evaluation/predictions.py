"""The labels of some images, as a table: for `predict.py` as text, in Python as rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.error_analysis import Ranking, csv_text, top
from utils.errors import DataError


@dataclass(frozen=True, repr=False)
class Predictions:
    """The labels of some images, a row for each.

    Attributes:
        paths: the images that could be read; `images[3]` stands for one that was given in memory.
        class_names: in the order of the columns of `probabilities`.
        probabilities: of the classes, float64 [N, K].
        unreadable: how many images could not be read.
        rejected: whether each is too uncertain, bool [N]; None where none was to be.
    """

    paths: list[str]
    class_names: list[str]
    probabilities: np.ndarray
    unreadable: int
    rejected: np.ndarray | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a script that made these."""
        return DataError.exit_code if self.unreadable else 0

    @property
    def classes(self) -> list[str | None]:
        """The likeliest class of each image; None for one that is rejected."""
        return [ranking[0][0] for ranking in self.top(1)]

    def top(self, k: int) -> list[Ranking]:
        """Return the `k` likeliest classes of each image with their probabilities; None for a class of a rejected."""
        rankings = top(self.probabilities, self.class_names, k)
        if self.rejected is None:
            return rankings
        return [[(None, p) for _, p in each] if no else each for each, no in zip(rankings, self.rejected)]

    def rows(self, top_k: int = 1, all_classes: bool = False) -> list[dict[str, Any]]:
        """Return a dictionary for each image, with the columns of the table of `predict.py`.

        Args:
            top_k: how many classes it has: `predicted`, `probability`, `predicted_2`, ...
            all_classes: add the probability of each class, `p_CLASS`; no other column begins so.
        """
        rows = [self._row(path, ranking) for path, ranking in zip(self.paths, self.top(top_k))]
        if self.rejected is not None:
            rows = [{**row, "rejected": bool(no)} for row, no in zip(rows, self.rejected)]
        if all_classes:
            columns = [f"p_{name}" for name in self.class_names]
            rows = [{**row, **dict(zip(columns, shares))} for row, shares in zip(rows, self.probabilities.tolist())]
        return rows

    @staticmethod
    def _row(path: str, ranking: Ranking) -> dict[str, Any]:
        row: dict[str, Any] = {"path": path}
        for place, (name, probability) in enumerate(ranking, 1):
            ending = f"_{place}" if place > 1 else ""
            row.update({f"predicted{ending}": name, f"probability{ending}": probability})
        return row

    def take(self, paths: Sequence[str]) -> Predictions:
        """Return the rows of `paths` in this order, also repeatedly; without those that could not be read."""
        place = {path: row for row, path in enumerate(self.paths)}
        rows = [place[path] for path in paths if path in place]
        rejected = None if self.rejected is None else self.rejected[rows]
        names = [self.paths[row] for row in rows]
        return Predictions(names, self.class_names, self.probabilities[rows], self.unreadable, rejected)

    def table(self, form: str = "csv", top_k: int = 1, all_classes: bool = False) -> str:
        """Return the table as text, "csv" or "json"; arguments otherwise as of `rows`."""
        rows = self.rows(top_k, all_classes)
        if form == "csv":
            return csv_text([{column: _cell(value) for column, value in row.items()} for row in rows])
        return json.dumps([self._entry(row) for row in rows], indent=2) + "\n"

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as an object of a JSON table."""
        names = [value or "" for column, value in row.items() if column.partition("_")[0] == "predicted"]
        shares = [round(value, 6) for column, value in row.items() if column.partition("_")[0] == "probability"]
        entry = {"path": row["path"], "top": [{"class": name, "probability": p} for name, p in zip(names, shares)]}
        if "rejected" in row:
            entry["rejected"] = row["rejected"]
        if f"p_{self.class_names[0]}" in row:
            entry["probabilities"] = {name: round(row[f"p_{name}"], 6) for name in self.class_names}
        return entry

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        return self.table().rstrip()

    def __repr__(self) -> str:
        doubtful = "" if self.rejected is None else f", {int(self.rejected.sum())} of them rejected"
        return f"<Predictions: {len(self)} images{doubtful}, {len(self.class_names)} classes>"


def _cell(value: str | float | bool | None) -> str | int | None:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6f}" if isinstance(value, float) else value

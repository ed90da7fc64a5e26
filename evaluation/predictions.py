"""The labels of some images, as a table: for `predict.py` as text, in Python as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.error_analysis import Ranking, csv_text, top
from utils.errors import DataError

Neighbours = list[tuple[str, float]]  # images and the cosines of their features, the nearest first


@dataclass(frozen=True, repr=False)
class Predictions:
    """The labels of some images, a row for each.

    Attributes:
        paths: the images that could be read; `images[3]` stands for one that was given in memory.
        class_names: in the order of the columns of `probabilities`.
        probabilities: of the classes, float64 [N, K].
        unreadable: how many images could not be read.
        rejected: whether each is too uncertain, bool [N]; None where none was to be.
        features: of the first network, float32 [N, C]; None where they were not asked for.
        nearest: the images nearest to each by their features; None where they were not asked for.
    """

    paths: list[str]
    class_names: list[str]
    probabilities: np.ndarray
    unreadable: int
    rejected: np.ndarray | None = None
    features: np.ndarray | None = None
    nearest: list[Neighbours] | None = None

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
        rankings = [_numbered("predicted", "probability", ranking) for ranking in self.top(top_k)]
        rows = [{"path": path, **ranking} for path, ranking in zip(self.paths, rankings)]
        if self.rejected is not None:
            rows = [{**row, "rejected": bool(no)} for row, no in zip(rows, self.rejected)]
        if self.nearest is not None:
            rows = [{**row, **_numbered("nearest", "cosine", each)} for row, each in zip(rows, self.nearest)]
        if all_classes:
            columns = [f"p_{name}" for name in self.class_names]
            rows = [{**row, **dict(zip(columns, shares))} for row, shares in zip(rows, self.probabilities.tolist())]
        return rows

    def take(self, paths: Sequence[str]) -> Predictions:
        """Return the rows of `paths` in this order, also repeatedly; without those that could not be read."""
        place = {path: row for row, path in enumerate(self.paths)}
        rows = [place[path] for path in paths if path in place]
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            probabilities=self.probabilities[rows],
            rejected=None if self.rejected is None else self.rejected[rows],
            features=None if self.features is None else self.features[rows],
            nearest=None if self.nearest is None else [self.nearest[row] for row in rows],
        )

    def table(self, form: str = "csv", top_k: int = 1, all_classes: bool = False) -> str:
        """Return the table as text, "csv" or "json"; arguments otherwise as of `rows`."""
        rows = self.rows(top_k, all_classes)
        if form == "csv":
            return csv_text([{column: _cell(value) for column, value in row.items()} for row in rows])
        return json.dumps([self._entry(row) for row in rows], indent=2) + "\n"

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as an object of a JSON table."""
        top = [{"class": name or "", "probability": round(p, 6)} for name, p in _pairs(row, "predicted", "probability")]
        entry = {"path": row["path"], "top": top}
        if "rejected" in row:
            entry["rejected"] = row["rejected"]
        if "nearest" in row:
            entry["nearest"] = [{"path": path, "cosine": cosine} for path, cosine in _pairs(row, "nearest", "cosine")]
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


def _numbered(name: str, number: str, pairs: Iterable[tuple[str | None, float]]) -> dict[str, Any]:
    """Return the columns of `pairs`: `name`, `number`, `name`_2, `number`_2, ..."""
    columns: dict[str, Any] = {}
    for place, (what, value) in enumerate(pairs, 1):
        ending = f"_{place}" if place > 1 else ""
        columns.update({f"{name}{ending}": what, f"{number}{ending}": value})
    return columns


def _pairs(row: dict[str, Any], name: str, number: str) -> Iterator[tuple[str | None, float]]:
    """Return what `_numbered` made columns of."""
    columns = ([value for key, value in row.items() if key.partition("_")[0] == each] for each in (name, number))
    return zip(*columns)


def _cell(value: str | float | bool | None) -> str | int | None:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6f}" if isinstance(value, float) else value

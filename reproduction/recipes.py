"""Recipes: data sets, protocols and methods as data.

A recipe is a YAML file. Its values stay text, so `1e-4` stays `1e-4`; an option without a value is a flag without one.
The options of a cell are merged in this order, later ones win: the recipe's, the data set's, the protocol's, the
method's, the method's for the data set.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from evaluation.interpolation import TITLES, Loss
from evaluation.metrics import METRICS
from reproduction.values import boolean, entries, mapping, numbers, options, shown, text
from utils import yamlfile
from utils.commandline import shortened
from utils.errors import UsageError

MOST_RUNS = 100_000
IMPLIED = {("orientation", "ignore")}  # what versions without the option did: their results keep their names

_ENTRY = ("title", "published", "options")
_KEYS = {
    "datasets": (*_ENTRY, "folder", "embedded", "fetch"),
    "protocols": _ENTRY,
    "methods": (*_ENTRY, "per_dataset"),
    "scores": ("images", "il"),
    "measures": ("from", "title", "digits", "published"),
}
_TOP = ("title", "note", "seeds", "threads", "options", *_KEYS, "published", "ranked")


class Cell(NamedTuple):
    """A data set, a protocol and a method, by their keys in the recipe; one run for each seed."""

    dataset: str
    protocol: str
    method: str


@dataclass(frozen=True)
class Recipe:
    """A validated recipe; values are text, lists or mappings of those.

    Attributes:
        path: the file.
        title: one line.
        note: text above the table.
        seeds: of the subsets and of the runs.
        threads: of each process; None divides the cores evenly.
        options: of every run, flag to value.
        datasets, protocols, methods: the axes.
        scores: calls of `test.py` with the last checkpoint, by name.
        measures: the reported numbers and their origin, by name.
        published: the published number and its deviation as text, by cell and measure.
        ranked: whether the methods are listed best first, with their cost and the run to keep.
    """

    path: Path
    title: str
    note: str
    seeds: list[int]
    threads: int | None
    options: dict[str, str]
    datasets: dict[str, dict]
    protocols: dict[str, dict]
    methods: dict[str, dict]
    scores: dict[str, dict]
    measures: dict[str, dict]
    published: dict[tuple[Cell, str], tuple[str, str]]
    ranked: bool

    @property
    def axes(self) -> dict[str, dict[str, dict]]:
        """The axes by their names in `--only` and in `Cell`."""
        return dict(zip(Cell._fields, (self.datasets, self.protocols, self.methods)))

    def cells(self, only: dict[str, list[str]] | None = None) -> list[Cell]:
        """Return the cells in the recipe's order: all of them, or those whose keys are in `only`."""
        only = only or {}
        kept = [[key for key in axis if key in only.get(name, axis)] for name, axis in self.axes.items()]
        return [Cell(*keys) for keys in itertools.product(*kept)]

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return the options of a cell, flag to value."""
        dataset, protocol, method = (axis[key] for axis, key in zip(self.axes.values(), cell))
        override = method["per_dataset"].get(cell.dataset, {})
        return {**self.options, **dataset["options"], **protocol["options"], **method["options"], **override}

    def sampling(self, cell: Cell) -> dict[str, str]:
        """Return the options that select the training images of a cell, without those of its method."""
        options = {**self.options, **self.datasets[cell.dataset]["options"], **self.protocols[cell.protocol]["options"]}
        return {flag: value for flag, value in options.items() if flag.startswith("sampl")}

    def digest(self, cell: Cell) -> str:
        """Return a digest of everything that a cell's results depend on except seed, folders and device."""
        images = [self.datasets[cell.dataset].get(key) for key in ("folder", "embedded")]
        settings = {flag: value for flag, value in self.settings(cell).items() if (flag, value) not in IMPLIED}
        return digest([settings, images, self.threads])


def digest(content: object) -> str:
    """Return eight hexadecimal digits of a hash of `content`; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def load(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: the file is missing, is not YAML, or holds an invalid value.
    """

    path = Path(path)
    content = mapping(yamlfile.read(path, "recipe", "recipes/demo.yaml"), str(path), _TOP)
    sections = {name: entries(content.get(name), f"{path}: {name}", keys) for name, keys in _KEYS.items()}
    for name, section in sections.items():
        if not section and name != "scores":
            raise UsageError(f"{path}: {name}: there are none")
    recipe = Recipe(
        path=path,
        title=text(content.get("title", path.stem), f"{path}: title"),
        note=" ".join(text(content.get("note", ""), f"{path}: note").split()),
        seeds=numbers(content.get("seeds", ["0"]), f"{path}: seeds"),
        threads=numbers([content["threads"]], f"{path}: threads", 1, 1024)[0] if "threads" in content else None,
        options=options(content.get("options"), f"{path}: options"),
        published={},
        ranked=boolean(content.get("ranked", "false"), f"{path}: ranked"),
        **sections,
    )
    _check(recipe)
    if "published" in content:
        recipe.published.update(_read_published(recipe, content["published"]))
    return recipe


def _check(recipe: Recipe) -> None:
    """Check the size of a recipe and the references between its sections."""
    runs = math.prod(len(axis) for axis in recipe.axes.values()) * len(recipe.seeds)
    if runs > MOST_RUNS:
        raise UsageError(f"{recipe.path}: {runs} runs; accepted are up to {MOST_RUNS}")
    for key, entry in recipe.datasets.items():
        if ("folder" in entry) == ("embedded" in entry):
            raise UsageError(f"{recipe.path}: datasets: {key}: give either its folder or `embedded: true`")
    for key, entry in recipe.methods.items():
        unknown = [name for name in entry["per_dataset"] if name not in recipe.datasets]
        if unknown:
            raise UsageError(f"{recipe.path}: methods: {key}: no data set {unknown[0]}")
    for key, entry in recipe.scores.items():
        if entry.get("images") not in ("train", "test"):
            raise UsageError(f"{recipe.path}: scores: {key}: images: accepted are train and test")
        boolean(entry.get("il", "true"), f"{recipe.path}: scores: {key}: il")
    splits = ["val_split" in recipe.settings(cell) for cell in recipe.cells()]
    if any(splits) and any(entry["images"] == "train" for entry in recipe.scores.values()):
        raise UsageError(
            f"{recipe.path}: val_split: not with a score on the train images, which include the held-out ones"
        )
    if recipe.ranked and not (all(splits) and {entry["from"] for entry in recipe.measures.values()} == {"last.acc"}):
        raise UsageError(
            f"{recipe.path}: ranked: only by last.acc and with val_split: methods must not be chosen on test images"
        )
    known = _measurable(recipe.scores)
    for key, entry in recipe.measures.items():
        numbers([entry.get("digits", "2")], f"{recipe.path}: measures: {key}: digits", high=12)
        if entry.get("from") not in known:
            culprit = f"measures: {key}: from: {shortened(str(entry.get('from')))}"
            raise UsageError(f"{recipe.path}: {culprit}: accepted are {', '.join(known)}")


def _measurable(scores: dict[str, dict]) -> list[str]:
    """Return the accepted origins of a measure: the numbers that `finetune.py` and `test.py` write."""
    found = [*(f"last.{each}" for each in METRICS), "best.acc"]
    for name, score in scores.items():
        found += [f"{name}.{each}" for each in METRICS]
        if score.get("il") == "true":
            found += [f"{name}.il.{each}.{form.name}" for each in TITLES for form in fields(Loss)]
    return found


def _read_published(recipe: Recipe, value: object) -> dict[tuple[Cell, str], tuple[str, str]]:
    """Return the published number and its deviation as text, by cell and measure."""
    where = f"{recipe.path}: published"
    value = {
        key: text(entry, f"{where}: {key}") for key, entry in mapping(value, where, ("file", *Cell._fields)).items()
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

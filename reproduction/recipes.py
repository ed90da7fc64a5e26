"""Recipes: data sets, protocols and methods as data.

A recipe is a YAML file. Its values stay text, so `1e-4` stays `1e-4`; an option without a value is a flag without one.
The options of a cell are merged in this order, later ones win: the recipe's, the data set's, the protocol's, the
method's, the method's for the data set, those that were chosen for it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from evaluation.interpolation import TITLES, Loss
from evaluation.metrics import METRICS
from reproduction import grid
from reproduction.grid import Choose
from reproduction.published import read_published
from reproduction.values import FOLDS, HELD_OUT, boolean, entries, mapping, numbers, options, text
from utils import yamlfile
from utils.commandline import shortened
from utils.errors import UsageError

MOST_RUNS = 100_000
IMPLIED = {("orientation", "ignore")}  # what versions without the option did: their results keep their names

_ENTRY = ("title", "published", "options")
_KEYS = {
    "datasets": (*_ENTRY, "folder", "embedded", "fetch"),
    "protocols": _ENTRY,
    "methods": (*_ENTRY, "per_dataset", "trials"),
    "scores": ("images", "il"),
    "measures": ("from", "title", "digits", "published"),
}
_TOP = ("title", "note", "seeds", "threads", "options", *_KEYS, "published", "ranked", "choose")


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
        choose: how the options of each method are chosen before its runs; None where nothing is.
        chosen: which trial was the best, by cell; a cell that is absent has no run yet.
        folder: of the runs, below that of the results.
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
    choose: Choose | None = None
    chosen: dict[Cell, int] = field(default_factory=dict)
    folder: str = "runs"

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
        chosen = self.choose.grid[cell.method][self.chosen[cell]] if cell in self.chosen else {}
        return {**self.options, **dataset["options"], **protocol["options"], **method["options"], **override, **chosen}

    def open(self, cell: Cell) -> bool:
        """Whether the options of a cell are still to be chosen."""
        return self.choose is not None and cell not in self.chosen

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
        choose=grid.read(content, sections["methods"], sections["protocols"], path),
        **sections,
    )
    _check(recipe)
    if "published" in content:
        recipe.published.update(read_published(recipe, content["published"]))
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
    _check_measures(recipe)
    _check_held_out(recipe)
    if recipe.choose:
        _check_choose(recipe, recipe.choose)


def _check_measures(recipe: Recipe) -> None:
    known = _measurable(recipe.scores)
    for key, entry in recipe.measures.items():
        numbers([entry.get("digits", "2")], f"{recipe.path}: measures: {key}: digits", high=12)
        if entry.get("from") not in known:
            culprit = f"measures: {key}: from: {shortened(str(entry.get('from')))}"
            raise UsageError(f"{recipe.path}: {culprit}: accepted are {', '.join(known)}")


def _check_held_out(recipe: Recipe) -> None:
    """Check that no measure of a run whose images are held out of its training folder is one of images it has seen."""
    held_out = [HELD_OUT & recipe.settings(cell).keys() for cell in recipe.cells()]
    for cell in recipe.cells():
        numbers([recipe.settings(cell).get("folds", "2")], f"{recipe.path}: {' '.join(cell)}: folds", *FOLDS)
    if any(held_out) and any(entry["images"] == "train" for entry in recipe.scores.values()):
        name = next(min(each) for each in held_out if each)
        raise UsageError(
            f"{recipe.path}: {name}: not with a score on the train images, which include the held-out ones"
        )
    folded = ["folds" in each for each in held_out]
    for key, entry in recipe.measures.items():
        source, where = entry["from"].split(".")[0], f"{recipe.path}: measures: {key}: from: {entry['from']}"
        if source == "folds" and not all(folded):
            raise UsageError(f"{where}: accepted where every run has folds")
        if source in ("last", "best") and any(folded):
            raise UsageError(f"{where}: the last network of folds has seen all images; accepted is folds.acc")
    ranked_by = {entry["from"] for entry in recipe.measures.values()}
    if recipe.ranked and not (all(held_out) and ranked_by <= {"last.acc", "folds.acc"}):
        raise UsageError(
            f"{recipe.path}: ranked: only by last.acc with val_split, or folds.acc with folds: methods must not be "
            "chosen on test images"
        )


def _check_choose(recipe: Recipe, choose: Choose) -> None:
    trials = len(recipe.datasets) * len(recipe.protocols) * len(choose.seeds) * sum(map(len, choose.grid.values()))
    if trials > MOST_RUNS:
        raise UsageError(f"{recipe.path}: {trials} runs to choose by; accepted are up to {MOST_RUNS}")
    if recipe.ranked:
        raise UsageError(f"{recipe.path}: ranked: not with choose, whose methods are tested on test images")
    for key, entry in recipe.measures.items():
        if entry["from"].startswith("best."):
            where = f"{recipe.path}: measures: {key}: from: {entry['from']}"
            raise UsageError(f"{where}: it is chosen on the test images: not with choose")
    tested = {flag for cell in recipe.cells() for flag in recipe.settings(cell)}
    tested |= {flag for trials in choose.grid.values() for trial in trials for flag in trial}
    if HELD_OUT & tested:
        raise UsageError(f"{recipe.path}: {min(HELD_OUT & tested)}: with choose it is one of the options of choose")
    if "patience" in tested:
        raise UsageError(f"{recipe.path}: patience: with choose it would stop the tests by their test images")


def _measurable(scores: dict[str, dict]) -> list[str]:
    """Return the accepted origins of a measure: the numbers that `finetune.py` and `test.py` write."""
    found = [*(f"last.{each}" for each in METRICS), "best.acc", *(f"folds.{each}" for each in METRICS)]
    for name, score in scores.items():
        found += [f"{name}.{each}" for each in METRICS]
        if score.get("il") == "true":
            found += [f"{name}.il.{each}.{form.name}" for each in TITLES for form in fields(Loss)]
    return found

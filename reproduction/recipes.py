"""Recipes: data sets, protocols and methods as data.

A recipe is a YAML file. Its values are handed on as they are written, so `1e-4` stays `1e-4`; an option without a
value is a flag without one. The options of a cell are united in this order, later ones win: the recipe's, the data
set's, the protocol's, the method's, the method's for the data set.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import yaml

from evaluation.interpolation import TITLES, Loss
from evaluation.metrics import METRICS
from utils.errors import UsageError

# flags of finetune.py that belong to a run, not to a recipe
RESERVED = ("name", "train_dir", "eval_dir", "save", "log_dir", "cache_dir", "gpu", "seed")
RESERVED += ("resume", "overwrite", "dry_run")
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
    """What one run, or one for each seed, is about: keys of the recipe."""

    dataset: str
    protocol: str
    method: str


@dataclass(frozen=True)
class Recipe:
    """A recipe as it was read; a value is text, a list or a mapping of those.

    Attributes:
        path: the file.
        title: one line.
        note: what is to be said beside the table.
        seeds: of the subsets and of the runs.
        threads: of each process; None for an equal share of the cores.
        options: of every run, flag to value.
        datasets, protocols, methods: the axes.
        scores: what `test.py` is asked about the last checkpoint, by name.
        measures: what is reported, by name, and where it comes from.
        published: the published numbers.
        ranked: whether the methods are listed best first, with what they cost and which run to keep.
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
        """The axes by the names they have in `--only` and in `Cell`."""
        return dict(zip(Cell._fields, (self.datasets, self.protocols, self.methods)))

    def cells(self, only: dict[str, list[str]] | None = None) -> list[Cell]:
        """Return the cells in the recipe's order: all of them, or those whose keys are in `only`."""
        only = only or {}
        kept = [[key for key in axis if key in only.get(name, axis)] for name, axis in self.axes.items()]
        return [Cell(*keys) for keys in itertools.product(*kept)]

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return the options of a cell, flag to value."""
        dataset, protocol, method = (axis[key] for axis, key in zip(self.axes.values(), cell))
        own = method["per_dataset"].get(cell.dataset, {})
        return {**self.options, **dataset["options"], **protocol["options"], **method["options"], **own}

    def sampling(self, cell: Cell) -> dict[str, str]:
        """Return how the images of a cell are chosen where no method says otherwise."""
        options = {**self.options, **self.datasets[cell.dataset]["options"], **self.protocols[cell.protocol]["options"]}
        return {flag: value for flag, value in options.items() if flag.startswith("sampl")}

    def digest(self, cell: Cell) -> str:
        """Return eight digits of a sum over all that a cell's results depend on, but for seed, folders and device."""
        images = [self.datasets[cell.dataset].get(key) for key in ("folder", "embedded")]
        return digest([self.settings(cell), images, self.threads])


def digest(content) -> str:
    """Return eight hexadecimal digits of a sum over `content`; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def load(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is no such file, it is no YAML, or something in it has no meaning.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # every value as it is written
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; a recipe is a file like recipes/demo.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    content = _mapping(content, path, _TOP)
    if content.get("ranked", "false") not in ("true", "false"):
        raise UsageError(f"{path}: ranked: accepted are true and false")
    axes = {part: _entries(content.get(part), f"{path}: {part}", _KEYS[part]) for part in _KEYS}
    for part in ("datasets", "protocols", "methods", "measures"):
        if not axes[part]:
            raise UsageError(f"{path}: {part}: there are none")
    recipe = Recipe(
        path=path,
        title=_text(content.get("title", path.stem), f"{path}: title"),
        note=" ".join(_text(content.get("note", ""), f"{path}: note").split()),
        seeds=numbers(content.get("seeds", ["0"]), f"{path}: seeds"),
        threads=numbers([content["threads"]], f"{path}: threads")[0] if "threads" in content else None,
        options=_options(content.get("options"), f"{path}: options"),
        published={},
        ranked=content.get("ranked", "false") == "true",
        **axes,
    )
    _check(recipe)
    if "published" in content:
        recipe.published.update(_read_published(recipe, content["published"]))
    return recipe


def numbers(values: list[str], where: str) -> list[int]:
    """Return whole numbers from 0 upwards, each once.

    Raises:
        UsageError: naming `where`.
    """
    if not isinstance(values, list) or not values or not all(str(value).isdigit() for value in values):
        raise UsageError(f"{where}: {values}: accepted are whole numbers from 0 upwards")
    return list(dict.fromkeys(map(int, values)))


def _mapping(value, where, accepted=None) -> dict:
    value = {} if value in (None, "") else value
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {value!r:.60}: expected is a mapping")
    unknown = [key for key in value if accepted and key not in accepted]
    if unknown:
        raise UsageError(f"{where}: unknown {', '.join(unknown)}; accepted are {', '.join(accepted)}")
    return value


def _entries(value, where, accepted) -> dict[str, dict]:
    """Return the entries of one part, each with its title, options and options for a data set filled in."""
    found = {}
    for key, entry in _mapping(value, where).items():
        if not key.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"{where}: {key!r}: a name is made of letters, digits, - and _, for it becomes a file's")
        entry = _mapping(entry, f"{where}: {key}", accepted)
        entry = {"title": key, **entry, "options": _options(entry.get("options"), f"{where}: {key}: options")}
        for name in set(entry) - {"options", "per_dataset"}:
            _text(entry[name], f"{where}: {key}: {name}")
        own = _mapping(entry.get("per_dataset"), f"{where}: {key}: per_dataset")
        entry["per_dataset"] = {name: _options(flags, f"{where}: {key}: {name}") for name, flags in own.items()}
        found[key] = entry
    return found


def _options(value, where) -> dict[str, str]:
    options = _mapping(value, where)
    for flag, text in options.items():
        if flag in RESERVED:
            raise UsageError(f"{where}: {flag} belongs to a run, reproduce.py sets it")
        _text(text, f"{where}: {flag}")
    return options


def _text(value, where) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r:.60}: expected is one value")
    return value


def _check(recipe: Recipe) -> None:
    """Check what one part of a recipe says of another."""
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
        if entry.get("il", "true") not in ("true", "false"):
            raise UsageError(f"{recipe.path}: scores: {key}: il: accepted are true and false")
    splits = ["val_split" in recipe.settings(cell) for cell in recipe.cells()]
    if any(splits) and any(entry["images"] == "train" for entry in recipe.scores.values()):
        raise UsageError(f"{recipe.path}: val_split: with a score on the train images, which would hold the others too")
    if recipe.ranked and not (all(splits) and {entry["from"] for entry in recipe.measures.values()} == {"last.acc"}):
        raise UsageError(f"{recipe.path}: ranked: only by last.acc and with val_split: nobody chooses on test images")
    known = _measurable(recipe.scores)
    for key, entry in recipe.measures.items():
        numbers([entry.get("digits", "2")], f"{recipe.path}: measures: {key}: digits")
        if entry.get("from") not in known:
            raise UsageError(
                f"{recipe.path}: measures: {key}: from: {entry.get('from')}: accepted are {', '.join(known)}"
            )


def _measurable(scores: dict[str, dict]) -> list[str]:
    """Return where a measure can come from: what `finetune.py` and `test.py` write, by its place."""
    found = [*(f"last.{each}" for each in METRICS), "best.acc"]
    for name, score in scores.items():
        found += [f"{name}.{each}" for each in METRICS]
        if score.get("il") == "true":
            found += [f"{name}.il.{each}.{form.name}" for each in TITLES for form in fields(Loss)]
    return found


def _read_published(recipe: Recipe, value) -> dict[tuple[Cell, str], tuple[str, str]]:
    """Return the published number and its deviation, as they are written, by cell and measure."""
    where = f"{recipe.path}: published"
    value = _mapping(value, where, ("file", *Cell._fields))
    path = recipe.path.parent / value.get("file", "")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    wanted = {axis: column for axis, column in value.items() if axis != "file"}
    found = {}
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
            matches = [row for row in rows if all(row[column] == text for column, text in names.items())]
            if mean and len(matches) == 1:
                found[cell, measure] = (matches[0][mean], matches[0][deviation] if deviation else "")
    return found

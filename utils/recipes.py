"""Recipes: data sets, protocols and methods as data, and the runs of `finetune.py` and `test.py` that they mean.

A recipe is a YAML file. Its values are handed on as they are written, so `1e-4` stays `1e-4`; an option without a
value is a flag without one. Options of a run are united in this order, later ones win: the recipe's, the data set's,
the protocol's, the method's, the method's for the data set.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from utils import embedded, options
from utils.errors import Failure, UsageError, WeightsError

ROOT = Path(__file__).resolve().parent.parent
# flags of finetune.py that belong to the run, not to the recipe
RESERVED = (
    "name train_dir eval_dir save log_dir cache cache_dir gpu seed resume overwrite dry_run".split()
)  # fmt: skip
IMAGES_OF = ("train", "test")  # what `scores` may be taken on
ENTRY = ("title", "published", "options")
KEYS = {
    "recipe": ("title", "note", "seeds", "threads", "options", "datasets", "protocols", "methods", "scores", "measures",
               "published"),  # fmt: skip
    "datasets": (*ENTRY, "folder", "embedded", "fetch"),
    "protocols": ENTRY,
    "methods": (*ENTRY, "per_dataset"),
    "scores": ("images", "il"),
    "measures": ("title", "from", "digits", "published"),
    "published": ("file", "columns"),
}


class Cell(NamedTuple):
    """What one run, or one for each seed, is about: keys of the recipe."""

    dataset: str
    protocol: str
    method: str


@dataclass(frozen=True)
class Recipe:
    """A recipe as it was read; every value is text, a list or a mapping of those.

    Attributes:
        path: the file.
        title: one line.
        note: what is to be said with the table.
        seeds: the seeds of the subsets and of the runs.
        threads: of each process on a CPU; None for an equal share of the cores.
        options: of every run, as flag to value.
        datasets, protocols, methods: the axes.
        scores: what `test.py` is asked about the last checkpoint, by name.
        measures: the columns of the result: where each comes from, how it is titled.
        published: the file of published numbers, and which of its columns names which axis; empty when there is none.
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
    published: dict = field(default_factory=dict)

    @property
    def axes(self) -> dict[str, dict[str, dict]]:
        """The axes by the names they have in `--only` and in `Cell`."""
        return {"dataset": self.datasets, "protocol": self.protocols, "method": self.methods}

    def cells(self, only: dict[str, list[str]] | None = None) -> list[Cell]:
        """Return the cells in the recipe's order, all of them or those whose keys are in `only`."""
        only = only or {}
        chosen = [[key for key in axis if key in only.get(name, axis)] for name, axis in self.axes.items()]
        return [Cell(*keys) for keys in itertools.product(*chosen)]

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return the options of a cell, as flag to value, `{data_root}` not filled in."""
        entries = [axis[key] for axis, key in zip(self.axes.values(), cell)]
        layers = [self.options, *(entry["options"] for entry in entries), entries[-1]["per_dataset"].get(cell[0], {})]
        return {flag: value for layer in layers for flag, value in layer.items()}

    def digest(self, cell: Cell) -> str:
        """Return eight digits of a sum over everything that a cell's result depends on, but for its seed."""
        data = {key: self.datasets[cell.dataset].get(key) for key in ("folder", "embedded")}
        return _digest([self.settings(cell), data, self.threads])


@dataclass(frozen=True)
class Run:
    """One seed of one cell: the commands it takes and where they leave what.

    Args:
        data_root: the folder that the data sets' folders are in.
        out: where results go.
    """

    recipe: Recipe
    cell: Cell
    seed: int
    data_root: str
    out: Path

    @property
    def title(self) -> str:
        """The run for a person to read."""
        return f"{' '.join(self.cell)} seed {self.seed}"

    @property
    def name(self) -> str:
        """The run's `--name`: the cell, the sum of its options, the seed."""
        return f"{'_'.join(self.cell)}_{self.recipe.digest(self.cell)}_s{self.seed}"

    @property
    def settings(self) -> dict[str, str]:
        """Its options, everything filled in, but for those that belong to the run."""
        settings = self.recipe.settings(self.cell)
        if "embedded" in self.dataset:
            settings = {"pretrained": embedded.source_path(self.cache_dir), **settings}
        return {flag: value.replace("{data_root}", self.data_root) for flag, value in settings.items()}

    @property
    def dataset(self) -> dict:
        """The data set's entry in the recipe."""
        return self.recipe.datasets[self.cell.dataset]

    @property
    def cache_dir(self) -> str:
        """Where decoded images go: the embedded task keeps to itself, for its source network must not vary."""
        return str(self.out / "cache") if "embedded" in self.dataset else "./cache"

    def folder(self, part: str) -> str:
        """Return the folder of class folders of `part`: "train", "test", or "val" for what is scored in training."""
        if "embedded" in self.dataset:
            return str(embedded.letters(self.cache_dir) / "greek" / part)
        return os.path.join(self.data_root, self.dataset["folder"], "test" if part == "val" else part)

    @property
    def save(self) -> Path:
        """The folder of everything the run leaves behind."""
        return self.out / "runs" / self.name

    def file(self, ending: str) -> Path:
        """Return the file that `finetune.py` writes with `ending`."""
        return self.save / f"{self.name}_{self.settings['regularizer']}{ending}"

    def training(self) -> list[str]:
        """Return the arguments of `finetune.py`, without the device."""
        places = {
            "train_dir": self.folder("train"),
            "eval_dir": self.folder("val"),
            "name": self.name,
            "save": str(self.save),
            "log_dir": str(self.out / "visual_log"),
            "cache_dir": self.cache_dir,
            "seed": str(self.seed),
            "resume": "",
        }
        settings = self.settings
        first = {"regularizer": settings.pop("regularizer")}
        return _flags({**first, **settings, **places})

    def subset(self) -> Path:
        """Return the folder of links to the images that the protocol alone trains on."""
        protocol = {**self.recipe.options, **self.dataset["options"], **self.recipe.protocols[self.cell.protocol]["options"]}
        chosen = {flag: value for flag, value in protocol.items() if flag.startswith("sampl")}
        return self.out / "subsets" / f"{self.cell.dataset}_{_digest(chosen)}_s{self.seed}"

    def scores(self) -> dict[str, tuple[list[str], Path]]:
        """Return for each of the recipe's scores the arguments of `test.py`, without the device, and its result."""
        found = {}
        for name, score in self.recipe.scores.items():
            product = self.file(f"_{name}_{_digest(score)}.json")
            flags = {
                "ckpts": str(self.file("_Last.pdparams")),
                "test_dir": self.folder("test") if score["images"] == "test" else str(self.subset()),
                "cache_dir": self.cache_dir,
                "json": str(product),
                "seed": str(self.seed),
            }
            if score["il"]:
                flags["il"] = ""
            found[name] = _flags(flags), product
        return found

    def commands(self) -> list[tuple[str, list[str], Path]]:
        """Return the script, its arguments without the device, and the file that is there when it is done."""
        training = ("finetune.py", self.training(), self.file(".json"))
        return [training, *(("test.py", *score) for score in self.scores().values())]

    def finished(self) -> bool:
        """Return whether everything that the run is to leave behind is there."""
        return all(product.exists() for _, _, product in self.commands())

    def started(self) -> bool:
        """Return whether there is something to go on from."""
        return self.file("_Last.pdparams").exists() or self.file(".json").exists()

    def options(self):
        """Return its options as `finetune.py` understands them.

        Raises:
            UsageError: they mean nothing.
            WeightsError: a weight file is not there.
        """
        return options.parse(self.training())

    def values(self) -> dict[str, float]:
        """Return each of the recipe's measures, and the run's last and best accuracy; for finished runs only."""
        summary = _read_json(self.file(".json"))
        found = {"last": summary["last"]["acc"], "best": summary["best"]["acc"]}
        results = {name: _read_json(product)[0] for name, (_, product) in self.scores().items()}
        for name, measure in self.recipe.measures.items():
            if measure["from"] in found:
                continue
            value = results
            for key in measure["from"].split("."):
                if not isinstance(value, dict) or key not in value:
                    raise UsageError(
                        f"{self.recipe.path}: measure {name}: no {measure['from']} in what test.py wrote; "
                        f"there are {', '.join(map(str, value))}"
                    )
                value = value[key]
            found[name] = float(value)
        return {name: found[measure["from"]] if measure["from"] in found else found[name]
                for name, measure in self.recipe.measures.items()}  # fmt: skip

"""The runs of a recipe: their commands, their files and their results."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from datasets.folder import scan
from datasets.splits import choose
from reproduction.recipes import Cell, Recipe, digest
from reproduction.values import HELD_OUT
from training import embedded, presets
from training.options import AUTO, Options
from utils.errors import UsageError
from utils.system import link, rename

CACHE_DIR = "./cache"  # the default of finetune.py


@dataclass(frozen=True)
class Run:
    """One seed of one cell.

    Args:
        data_root: parent folder of the data sets.
        out: folder of the results.
    """

    recipe: Recipe
    cell: Cell
    seed: int
    data_root: str
    out: Path

    @property
    def title(self) -> str:
        """The cell and the seed, for messages."""
        return f"{' '.join(self.cell)} seed {self.seed}"

    @property
    def name(self) -> str:
        """The run's `--name`: the cell, a digest of its options, the seed."""
        return f"{'_'.join(self.cell)}_{self.recipe.digest(self.cell)}_s{self.seed}"

    @property
    def dataset(self) -> dict:
        """The data set's entry in the recipe."""
        return self.recipe.datasets[self.cell.dataset]

    @property
    def settings(self) -> dict[str, str]:
        """The options of its cell, with the path of the weights filled in."""
        settings = self.recipe.settings(self.cell)
        if "embedded" in self.dataset:
            settings = {"pretrained": embedded.source_path(self.cache_dir), **settings}
        return {flag: value.replace("{data_root}", self.data_root) for flag, value in settings.items()}

    @property
    def method(self) -> str:
        """The method, which its options name, or leave to their preset or the default."""
        return presets.regularizer(self.settings)

    @property
    def splits(self) -> bool:
        """Whether it is scored on images held out of its training folder."""
        return bool(HELD_OUT & self.settings.keys())

    @property
    def folds(self) -> int:
        """In how many folds its images are held out, one after the other; 0 for a run without."""
        return int(self.settings.get("folds", 0))

    @property
    def scored_on_subset(self) -> bool:
        """Whether it is scored on the images that its protocol selects."""
        return any(score["images"] == "train" for score in self.recipe.scores.values())

    @property
    def cache_dir(self) -> str:
        """Folder of decoded images; the embedded task has one per `out`, for its source network must not vary."""
        return str(self.out / "cache") if "embedded" in self.dataset else CACHE_DIR

    @property
    def save(self) -> Path:
        """The folder of all files of the run."""
        return self.out / self.recipe.folder / self.name

    def folder(self, split: str) -> str:
        """Return the image folder of `split`: "train", "val" (scored while training) or "test"."""
        if "embedded" in self.dataset:
            return str(embedded.letters(self.cache_dir) / "greek" / split)
        if split == "val":
            split = "train" if self.splits else "test"
        return os.path.normpath(os.path.join(self.data_root, self.dataset["folder"], split))

    def subset(self) -> Path:
        """Return the folder of links to the training images that the protocol selects, the same for every method."""
        images = [self.recipe.sampling(self.cell), os.path.realpath(self.folder("train"))]
        return self.out / "subsets" / f"{self.cell.dataset}_{digest(images)}_s{self.seed}"

    def file(self, ending: str) -> Path:
        """Return the run's file with `ending`, named as by `finetune.py`."""
        return self.save / f"{self.name}_{self.method}{ending}"

    def files(self, ending: str) -> list[Path]:
        """Return the files with `ending` of all that it trains: of each of its folds, then of all images."""
        folds = [self.save / f"{self.name}_fold{number}_{self.method}{ending}" for number in range(1, self.folds + 1)]
        return [*folds, self.file(ending)]

    def commands(self) -> list[tuple[list[str], Path]]:
        """Return each command line without the device, and the file that exists once it has succeeded."""
        product = self.file("_folds.json" if self.folds else ".json")
        return [(["finetune.py", *_words(self._flags())], product), *self.scoring().values()]

    def _flags(self) -> dict[str, str]:
        """Return the flags of `finetune.py`, flag to text; an empty text is a flag without a value."""
        return {
            **self.settings,
            "train_dir": self.folder("train"),
            **({} if self.splits else {"eval_dir": self.folder("val")}),
            "name": self.name,
            "save": str(self.save),
            "log_dir": str(self.out / "visual_log"),
            "cache_dir": self.cache_dir,
            "seed": str(self.seed),
            "resume": AUTO,
        }

    def scoring(self) -> dict[str, tuple[list[str], Path]]:
        """Return for each of the recipe's scores the command line of `test.py` and the file it writes."""
        commands = {}
        for name, score in self.recipe.scores.items():
            product = self.file(f"_{name}_{digest(score)}.json")
            flags = {
                "ckpts": str(self.file("_Last.pdparams")),
                "test_dir": self.folder("test") if score["images"] == "test" else str(self.subset()),
                "json": str(product),
                "cache_dir": self.cache_dir,
                "seed": str(self.seed),
                **({"il": ""} if score.get("il") == "true" else {}),
            }
            commands[name] = ["test.py", *_words(flags)], product
        return commands

    def parsed(self) -> Options:
        """Return its options as `finetune.py` reads them.

        Raises:
            UsageError: an option is invalid, or the number of updates is not stated.
            WeightsError: a weight file is missing.
        """
        options = Options.from_flags(self._flags())
        if options.max_iters is None:
            raise UsageError("a recipe states max_iters, in place of time or epochs")
        return options

    def state(self) -> str:
        """Return "finished", "diverged", "interrupted" or "new"."""
        if all(product.exists() for _, product in self.commands()):
            return "finished"
        if self.diverged.exists():
            return "diverged"
        begun = (path.exists() for ending in ("_Last.pdparams", ".json") for path in self.files(ending))
        return "interrupted" if any(begun) else "new"

    @property
    def diverged(self) -> Path:
        """The file that says that the loss did not stay finite, where that is a result and not a failure."""
        return self.save / "diverged.txt"

    def summary(self) -> dict:
        """Return the summary written by `finetune.py`; with folds that of the run of all images."""
        return json.loads(self.file(".json").read_text(encoding="utf-8"))

    def pooled(self) -> dict:
        """Return the scores of all images out of fold, of a run with folds."""
        return json.loads(self.file("_folds.json").read_text(encoding="utf-8"))

    def seconds(self) -> float:
        """Return how long a finished run took, all folds together."""
        return sum(json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in self.files(".json"))

    def values(self) -> dict[str, float]:
        """Return the recipe's measures of a finished run; a missing value is NaN."""
        results = self.summary()
        if self.folds:
            results["folds"] = self.pooled()["scores"]
        for name, (_, product) in self.scoring().items():
            results[name] = json.loads(product.read_text(encoding="utf-8"))[0]
        values = {}
        for name, entry in self.recipe.measures.items():
            value = functools.reduce(dict.__getitem__, entry["from"].split("."), results)
            values[name] = float("nan") if value is None else float(value)
        return values

    def drop_checkpoints(self) -> None:
        """Delete the weights of a finished run."""
        for kind in ("Best", "Last", "Probe"):
            for path in self.files(f"_{kind}.pdparams"):
                path.unlink(missing_ok=True)

    def link_subset(self) -> None:
        """Make the folder `subset` unless it exists.

        Raises:
            DataError, UsageError: as in training.
        """
        target = self.subset()
        if target.exists():
            return
        flags = {flag: value for flag, value in self._flags().items() if not flag.startswith("sampl")}
        selection = Options.from_flags({**flags, **self.recipe.sampling(self.cell)})
        images = scan(selection.train_dir)
        chosen, _ = choose(images, selection)
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for path in images.select(chosen).paths:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            link((images.root / path).resolve(), partial / path)
        rename(partial, target)


def _words(flags: dict[str, str]) -> list[str]:
    return [word for flag, value in flags.items() for word in (f"--{flag}", value) if word]


def finished(recipe: Recipe, out: Path) -> list[Run]:
    """Return the finished runs of `recipe` below `out`, of any seed, in order of cell and seed."""
    result = []
    for cell in itertools.filterfalse(recipe.open, recipe.cells()):
        first = Run(recipe, cell, 0, "", out)
        seeds = [
            path.name.rpartition("_s")[2] for path in first.save.parent.glob(f"{first.name.rpartition('_s')[0]}_s*")
        ]
        runs = [Run(recipe, cell, seed, "", out) for seed in sorted({int(seed) for seed in seeds if seed.isdecimal()})]
        result += [run for run in runs if run.state() == "finished"]
    return result

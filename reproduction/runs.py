"""The runs that a recipe means: which commands they take, where these leave what, and what came out."""

from __future__ import annotations

import functools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from datasets.folder import scan
from datasets.subsets import subset
from reproduction.recipes import Cell, Recipe, digest
from training import embedded, options

CACHE_DIR = "./cache"  # the default of finetune.py


@dataclass(frozen=True)
class Run:
    """One seed of one cell.

    Args:
        data_root: the folder that holds those of the data sets.
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
    def dataset(self) -> dict:
        """The data set's entry in the recipe."""
        return self.recipe.datasets[self.cell.dataset]

    @property
    def settings(self) -> dict[str, str]:
        """The options of its cell, with the place of the weights filled in."""
        settings = self.recipe.settings(self.cell)
        if "embedded" in self.dataset:
            settings = {"pretrained": embedded.source_path(self.cache_dir), **settings}
        return {flag: value.replace("{data_root}", self.data_root) for flag, value in settings.items()}

    @property
    def splits(self) -> bool:
        """Whether it is scored on a part of its training images, which it is not trained on."""
        return "val_split" in self.settings

    @property
    def cache_dir(self) -> str:
        """Where decoded images go, and the embedded task: it keeps to itself, for its source network must not vary."""
        return str(self.out / "cache") if "embedded" in self.dataset else CACHE_DIR

    @property
    def save(self) -> Path:
        """The folder of everything the run leaves behind."""
        return self.out / "runs" / self.name

    def folder(self, part: str) -> str:
        """Return the folder of class folders that holds `part`: "train", "val" (scored while training) or "test"."""
        if "embedded" in self.dataset:
            return str(embedded.letters(self.cache_dir) / "greek" / part)
        part = "train" if part == "val" and self.splits else "test" if part == "val" else part
        return os.path.normpath(os.path.join(self.data_root, self.dataset["folder"], part))

    def subset(self) -> Path:
        """Return the folder of links to the images that the protocol, whatever the method, trains on."""
        return self.out / "subsets" / f"{self.cell.dataset}_{digest(self.recipe.sampling(self.cell))}_s{self.seed}"

    def file(self, ending: str) -> Path:
        """Return the run's file with `ending`, as `finetune.py` names it."""
        return self.save / f"{self.name}_{self.settings['regularizer']}{ending}"

    def commands(self) -> list[tuple[list[str], Path]]:
        """Return each script with its arguments, but for the device, and the file that is there when it is done."""
        return [(self._training(), self.file(".json")), *self.scoring().values()]

    def _training(self) -> list[str]:
        flags = {
            **self.settings,
            "train_dir": self.folder("train"),
            **({} if self.splits else {"eval_dir": self.folder("val")}),
            "name": self.name,
            "save": str(self.save),
            "log_dir": str(self.out / "visual_log"),
            "cache_dir": self.cache_dir,
            "seed": str(self.seed),
            "resume": "",
        }
        return ["finetune.py", *_words(flags)]

    def scoring(self) -> dict[str, tuple[list[str], Path]]:
        """Return for each of the recipe's scores `test.py` with its arguments, and the file it writes."""
        found = {}
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
            found[name] = ["test.py", *_words(flags)], product
        return found

    def parsed(self):
        """Return its options as `finetune.py` understands them.

        Raises:
            UsageError: they mean nothing.
            WeightsError: a weight file is not there.
        """
        return options.parse(self._training()[1:])

    def state(self) -> str:
        """Return "finished", "interrupted" or "new"."""
        if all(product.exists() for _, product in self.commands()):
            return "finished"
        return "interrupted" if self.file("_Last.pdparams").exists() or self.file(".json").exists() else "new"

    def summary(self) -> dict:
        """Return what `finetune.py` summarized."""
        return json.loads(self.file(".json").read_text(encoding="utf-8"))

    def values(self) -> dict[str, float]:
        """Return the recipe's measures of a finished run; one that has no value there is not a number."""
        results = self.summary()
        for name, (_, product) in self.scoring().items():
            results[name] = json.loads(product.read_text(encoding="utf-8"))[0]
        found = {}
        for name, entry in self.recipe.measures.items():
            value = functools.reduce(dict.__getitem__, entry["from"].split("."), results)
            found[name] = float("nan") if value is None else float(value)
        return found

    def drop_checkpoints(self) -> None:
        """Delete the weights of a finished run."""
        for ending in ("_Best.pdparams", "_Last.pdparams"):
            self.file(ending).unlink(missing_ok=True)

    def link_subset(self) -> None:
        """Make the folder `subset`, unless it is there.

        Raises:
            DataError, UsageError: as in training.
        """
        target = self.subset()
        if target.exists():
            return
        whole = {flag: value for flag, value in self.settings.items() if not flag.startswith("sampl")}
        places = {"train_dir": self.folder("train"), "eval_dir": self.folder("val")}
        asked = options.parse(_words({**whole, **self.recipe.sampling(self.cell), **places}))
        images = scan(asked.train_dir)
        chosen, _ = subset(
            images,
            self.seed,
            rate=asked.sample_rate,
            class_spec=asked.sample_classes,
            total=asked.sample_total,
            sampling=asked.sampling,
            listed=asked.sample_list,
        )
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for path in images.select(chosen).paths:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).symlink_to((images.root / path).resolve())
        os.replace(partial, target)


def _words(flags: dict[str, str]) -> list[str]:
    return [word for flag, value in flags.items() for word in (f"--{flag}", value) if word]


def finished(recipe: Recipe, out: Path) -> list[Run]:
    """Return the finished runs of every cell of `recipe` below `out`, of any seed, in the recipe's order."""
    found = []
    for cell in recipe.cells():
        first = Run(recipe, cell, 0, "", out)
        seeds = [
            path.name.rpartition("_s")[2] for path in first.save.parent.glob(f"{first.name.rpartition('_s')[0]}_s*")
        ]
        runs = [Run(recipe, cell, seed, "", out) for seed in sorted(int(seed) for seed in seeds if seed.isdigit())]
        found += [run for run in runs if run.state() == "finished"]
    return found

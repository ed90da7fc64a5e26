"""Prerequisites of runs: image folders, weights, the embedded task, subsets to be scored on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from checkpoints.pretrained import locate
from datasets.official import DATA_SETS
from reproduction.recipes import Recipe
from reproduction.runs import Run
from reproduction.scheduler import PAUSE, in_use
from training import embedded
from utils.errors import DataError, Failure, UsageError, WeightsError
from utils.project import typed


def check(recipe: Recipe, runs: list[Run]) -> None:
    """Check that `finetune.py` accepts the options of every run.

    Raises:
        UsageError: naming the recipe and the cell.
    """
    for run in {(run.cell, run.recipe.chosen.get(run.cell)): run for run in runs}.values():
        try:
            run.parsed()
        except WeightsError:
            pass  # `obstacles` reports missing files
        except UsageError as error:
            raise UsageError(f"{recipe.path}: {' '.join(run.cell)}: {error}") from None


def obstacles(runs: list[Run]) -> dict[str, Failure]:
    """Return the names of the runs that cannot be made, each with the reason; download missing weights."""
    known: dict[tuple, Failure | None] = {}
    failures = {}
    for run in runs:
        key = (run.cell.dataset, run.splits, *(run.settings.get(flag) for flag in ("pretrained", "model_arch")))
        if key not in known:
            known[key] = _obstacle(run)
        if known[key] is not None:
            failures[run.name] = known[key]
    return failures


def _obstacle(run: Run) -> Failure | None:
    if "embedded" in run.dataset:
        return None
    scored = {score["images"] for score in run.recipe.scores.values()}
    splits = ["train"] if run.splits and "test" not in scored else ["train", "test"]
    for split in splits:
        if not os.path.isdir(run.folder(split)):
            return DataError(f"{run.cell.dataset}: no folder {run.folder(split)}; {_how_to_make(run, splits)}")
    try:
        options = run.parsed()
        if options.pretrained != "none":
            locate(options.pretrained, options.model_arch)
    except WeightsError as failure:
        fetch = run.dataset.get("fetch")
        return WeightsError(f"{run.cell.dataset}: {failure}" + (f"; it is at {fetch}" if fetch else ""))
    return None


def _how_to_make(run: Run, splits: list[str]) -> str:
    folder, name = os.path.dirname(run.folder("train")), run.dataset["folder"]
    if name in DATA_SETS:
        return f"make it with: {typed('-m datasets.prepare')} {name} --archive FILE ... --out {folder}"
    return f"expected: {' and '.join(f'{folder}/{split}/CLASS/' for split in splits)}"


def provide(runs: list[Run], gpu: int) -> None:
    """Prepare the embedded task and link the subsets; existing ones are kept.

    Raises:
        Failure: the source network cannot be trained.
    """
    for cache_dir in sorted({run.cache_dir for run in runs if "embedded" in run.dataset}):
        _wait_for(Path(embedded.source_path(cache_dir)).with_name("latin_l2.txt"))
        embedded.prepare(cache_dir, gpu)
    for run in runs:
        if run.scored_on_subset:
            with contextlib.suppress(Failure):  # training fails for the same reason and reports it
                run.link_subset()


def _wait_for(log: Path) -> None:
    """Wait while the source network is still trained by the child of an earlier, killed call."""
    if in_use(log):
        print(f"waiting for another process, which is still writing {log}", flush=True)
        while in_use(log):
            time.sleep(PAUSE)


def same_images(run: Run) -> None:
    """Check that a finished run was trained on the folder that it would be trained on now.

    Raises:
        UsageError: it was trained on another one.
    """
    then, now = run.summary()["options"]["train_dir"], run.folder("train")
    if "folder" in run.dataset and os.path.realpath(then) != os.path.realpath(now):
        raise UsageError(f"{run.save} was trained on {then}, asked for is {now}; give another --out, or --data_root")

"""Runs as jobs of an executor: their command lines, and what of them travels between machines."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from reproduction.parcels import Parcel
from reproduction.recipes import digest
from reproduction.runs import Run
from reproduction.scheduler import Job
from training import embedded
from utils import project


def job(run: Run) -> Job:
    """Return the commands of a run as a job."""
    commands = [([*project.command(script), *words], product) for (script, *words), product in run.commands()]
    return Job(run.name, commands, stderr=run.save / "stderr.txt", locked=run.files(".txt"))


def scratch_folder(scratch: str, out: Path) -> Path:
    """Return the folder below `scratch` for the results that belong into `out`."""
    return Path(os.path.abspath(scratch)) / f"{out.name}_{digest(os.path.abspath(out))}"


def parcel(run: Run, scratch: Path) -> tuple[Job, Parcel]:
    """Return a run's job on a machine where its results go into `scratch`, and what travels."""
    there = dataclasses.replace(run, out=scratch)
    inputs = []
    if "embedded" in run.dataset:
        here, name = embedded.root(run.cache_dir), embedded.root("cache").as_posix()
        inputs += [(f"{name}/{folder}", here / folder) for folder in ("letters", "source")]
    if run.scored_on_subset:
        inputs.append((there.subset().relative_to(scratch).as_posix(), run.subset()))
    curves = [f"visual_log/{path.name}" for path in run.files("")]
    outputs = (f"{run.recipe.folder}/{run.name}", *curves)
    return job(there), Parcel(tuple(inputs), outputs, links="embedded" not in run.dataset)

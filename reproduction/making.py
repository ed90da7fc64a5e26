"""The runs of a recipe made: what they need, the trials, then the runs with what these chose."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from reproduction import budget, choice, jobs, needs, places, report
from reproduction.choice import Asked
from reproduction.progress import Progress, count
from reproduction.recipes import Recipe
from reproduction.runs import Run, finished
from reproduction.scheduler import Job
from utils import errors


def provide(asked: Asked, where: places.Place) -> list[Run]:
    """Set the threads of every process, prepare the runs, and return those that can be made.

    Of a recipe with `choose` these are its trials, and for each test one that stands for whatever is chosen.

    Raises:
        DataError, WeightsError: none can be made.
    """
    os.environ["OMP_NUM_THREADS"] = str(where.threads(asked.recipe))
    runs = [*asked.trials(), *asked.possible_tests(first=True)]
    blocked = needs.obstacles(runs)
    possible = [run for run in runs if run.name not in blocked]
    for text in dict.fromkeys(map(str, blocked.values())):
        left_out = sum(str(failure) == text for failure in blocked.values())
        print(f"{text}: left out {count(left_out)}", file=sys.stderr, flush=True)
    if not possible:
        failure = next(iter(blocked.values()))
        raise type(failure)(f"{asked.recipe.path}: no run can be made, for the reasons above")
    needs.provide(possible, where.device)
    return possible


def make_all(asked: Asked, possible: list[Run], where: places.Place, drop: bool) -> dict[str, str]:
    """Make the trials, if there are any, then the runs with what they chose; return the failures by title.

    Args:
        asked: the runs that were asked for.
        possible: those that can be made, as of `provide`.
        where: they are made.
        drop: delete the weights of each once it is scored.

    Raises:
        UsageError: finished runs were trained on other folders.
        Interrupted: after a signal.
    """
    trials = [run for run in possible if run.recipe.folder == choice.FOLDER]
    failures = _make(asked.recipe, trials, where, drop)
    testable = {run.cell for run in possible if run.recipe.folder != choice.FOLDER}
    asked = replace(asked, cells=[cell for cell in asked.cells if cell in testable])
    if asked.recipe.choose:
        failures.update(choice.undecided(asked.recipe, asked.cells, asked.out))
    return {**failures, **_make(asked.recipe, asked.tests(), where, drop)}


def _make(recipe: Recipe, runs: list[Run], where: places.Place, drop: bool) -> dict[str, str]:
    """Make the runs that are not finished; return the reasons of the failed ones by title.

    Raises:
        UsageError: finished ones were trained on other folders.
        Interrupted: after a signal.
    """
    if not runs:
        return {}
    states = [run.state() for run in runs]
    left = [run for run, state in zip(runs, states) if state not in ("finished", "diverged")]
    for run, state in zip(runs, states):
        if state == "finished":
            needs.same_images(run)
    print(f"{runs[0].recipe.title}: {count(len(runs))}, {len(runs) - len(left)} finished", flush=True)
    if not left:
        return {}
    by_name, out = {run.name: run for run in left}, runs[0].out
    seconds, megabytes, basis = budget.estimate(left, finished(runs[0].recipe, out), where.timed_on)
    progress = Progress(len(left), seconds, where.slots)

    def ended(job: Job, took: float, reason: str | None) -> None:
        run = by_name[job.name]
        diverged = reason is not None and choice.is_result(run, reason)
        result = f"diverged: {reason}" if diverged else reason or report.values(run)
        progress.ended(job.name, run.title, took, result, reason is not None and not diverged, executor.running)
        if drop and reason is None:
            run.drop_checkpoints()

    progress.say(progress.budget(basis))
    if not drop:
        _room(out, megabytes)
    executor = where.executor(out, left, drop, ended, progress.say)
    try:
        executor.run([jobs.job(run) for run in left])
    except errors.Interrupted:
        report.write(recipe, out)
        raise
    finally:
        progress.bar.close()
    return progress.failures


def _room(out: Path, megabytes: float) -> None:
    """Warn if the checkpoints will not fit on the disk."""
    free = shutil.disk_usage(out).free / 1e6
    if megabytes > free:
        errors.warn(f"the checkpoints take {megabytes / 1e3:.0f} GB, {free / 1e3:.0f} are free; see --drop_checkpoints")

"""What a dry run prints: every cell with the commands of its runs."""

from __future__ import annotations

import shlex

from reproduction.choice import Asked
from reproduction.progress import count
from reproduction.runs import Run
from utils.project import typed


def list_all(asked: Asked, gpu: int) -> None:
    """Print the trials, if there are any, and every cell, with the commands of their runs on device `gpu`."""
    trials, tests = asked.trials(), asked.tests()
    if trials:
        show("trial", trials, gpu)
        cells, decided = len(asked.cells), len({run.cell for run in tests})
        print(f"tests follow: {cells} cells, {count(cells * len(asked.seeds))}, {decided} of them chosen by now")
    if tests:
        show("cell", tests, gpu)


def show(what: str, runs: list[Run], gpu: int) -> None:
    """Print every cell, named `what`, and the commands of its runs on device `gpu`."""
    recipe, states = runs[0].recipe, [run.state() for run in runs]
    cells = list(dict.fromkeys(run.cell for run in runs))
    prefix = f"OMP_NUM_THREADS={recipe.threads} " if recipe.threads else ""
    for cell in cells:
        for measure in recipe.measures:
            print(f"{what} {' '.join(cell)} {measure}")
        for run, state in zip(runs, states):
            if run.cell == cell:
                print(f"  seed {run.seed}, {state}")
                for (script, *words), _ in run.commands():
                    print(f"    {prefix}{typed(script)} {shlex.join(words)} --gpu {gpu}")
    shown = ("finished", "interrupted", "new", *(["diverged"] if "diverged" in states else []))
    counts = ", ".join(f"{states.count(state)} {state}" for state in shown)
    print(f"{len(cells) * len(recipe.measures)} {what}s, {count(len(runs))}: {counts}")

"""What a recipe would run: for a person, or one line of JSON for each run, for another scheduler."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from reproduction.progress import count
from reproduction.recipes import Recipe
from reproduction.runs import Run


def text(recipe: Recipe, runs: list[Run], gpu: int) -> Iterator[str]:
    """Yield a line for every cell, run and command on device `gpu`, and one with their numbers."""
    states = [run.state() for run in runs]
    cells = list(dict.fromkeys(run.cell for run in runs))
    for cell in cells:
        for measure in recipe.measures:
            yield f"cell {' '.join(cell)} {measure}"
        for run, state in zip(runs, states):
            if run.cell == cell:
                yield f"  seed {run.seed}, {state}"
                yield from (f"    {words}" for words in _commands(run, gpu))
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "interrupted", "new"))
    yield f"{len(cells) * len(recipe.measures)} cells, {count(len(runs))}: {counts}"


def jsonl(runs: list[Run], gpu: int) -> Iterator[str]:
    """Yield a JSON object for each run: its name, cell, seed and state, and one command line of a shell that makes it.

    The command skips what is there already and goes on where the run stopped.
    """
    for run in runs:
        steps = [
            f"{{ test -e {shlex.quote(str(product))} || {words}; }}"
            for words, (_, product) in zip(_commands(run, gpu), run.commands())
        ]
        entry = {"name": run.name, **run.cell._asdict(), "seed": run.seed, "state": run.state()}
        yield json.dumps({**entry, "command": " && ".join(steps)})


def _commands(run: Run, gpu: int) -> Iterator[str]:
    """Yield the command lines of a run, of a shell."""
    prefix = f"OMP_NUM_THREADS={run.recipe.threads} " if run.recipe.threads else ""
    for command, _ in run.commands():
        yield f"{prefix}python {shlex.join(command)} --gpu {gpu}"

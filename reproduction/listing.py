"""What a recipe would run: for a person, or one line of JSON for each run, for another scheduler."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from reproduction.choice import Asked
from reproduction.progress import count
from reproduction.runs import Run
from utils.project import typed


def text(asked: Asked, gpu: int) -> Iterator[str]:
    """Yield a line for every cell, of trials first, every run and command on device `gpu`, and for their numbers."""
    trials, tests = asked.trials(), asked.tests()
    if trials:
        yield from _cells("trial", trials, gpu)
        cells, decided = len(asked.cells), len({run.cell for run in tests})
        yield f"tests follow: {cells} cells, {count(cells * len(asked.seeds))}, {decided} of them chosen by now"
    if tests:
        yield from _cells("cell", tests, gpu)


def _cells(what: str, runs: list[Run], gpu: int) -> Iterator[str]:
    """Yield the lines of `runs`, whose cells are each named `what`."""
    measures, states = runs[0].recipe.measures, [run.state() for run in runs]
    cells = list(dict.fromkeys(run.cell for run in runs))
    for cell in cells:
        for measure in measures:
            yield f"{what} {' '.join(cell)} {measure}"
        for run, state in zip(runs, states):
            if run.cell == cell:
                yield f"  seed {run.seed}, {state}"
                yield from (f"    {words}" for words in _commands(run, gpu))
    shown = ("finished", "interrupted", "new", *(["diverged"] if "diverged" in states else []))
    counts = ", ".join(f"{states.count(state)} {state}" for state in shown)
    yield f"{len(cells) * len(measures)} {what}s, {count(len(runs))}: {counts}"


def jsonl(asked: Asked, gpu: int) -> Iterator[str]:
    """Yield a JSON object for each run: its name, cell, seed and state, and one command line of a shell that makes it.

    The command skips what is there already and goes on where the run stopped. Of a recipe with `choose` these are the
    trials, and the tests whose options are chosen by now.
    """
    for run in (*asked.trials(), *asked.tests()):
        steps = [
            f"{{ test -e {shlex.quote(str(product))} || {words}; }}"
            for words, (_, product) in zip(_commands(run, gpu), run.commands())
        ]
        entry = {"name": run.name, **run.cell._asdict(), "seed": run.seed, "state": run.state()}
        yield json.dumps({**entry, "command": " && ".join(steps)})


def _commands(run: Run, gpu: int) -> Iterator[str]:
    """Yield the command lines of a run, of a shell."""
    prefix = f"OMP_NUM_THREADS={run.recipe.threads} " if run.recipe.threads else ""
    for (script, *words), _ in run.commands():
        yield f"{prefix}{typed(script)} {shlex.join(words)} --gpu {gpu}"

"""The trials of a recipe with `choose`, the options that they choose, and both in words."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from reproduction import tables
from reproduction.grid import label
from reproduction.recipes import Cell, Recipe
from reproduction.runs import Run
from utils.errors import Diverged
from utils.files import write_text

FOLDER = "trials"  # of their runs, beside that of the tests


@dataclass(frozen=True)
class Asked:
    """The runs that a call asks for.

    Attributes:
        recipe: whose options may be open.
        cells: some of its cells.
        seeds: of the runs; trials have seeds of their own.
        data_root: parent folder of the data sets.
        out: folder of the results.
    """

    recipe: Recipe
    cells: list[Cell]
    seeds: list[int]
    data_root: str
    out: Path

    def trials(self) -> list[Run]:
        """Return the runs of the trials; none of a recipe without `choose`."""
        if self.recipe.choose is None:
            return []
        tried = trials(self.recipe)
        cells = of_cells(self.recipe, self.cells)
        return [Run(tried, cell, seed, self.data_root, self.out) for cell in cells for seed in tried.seeds]

    def tests(self) -> list[Run]:
        """Return the runs of the cells with the options that their trials chose; of all cells without `choose`."""
        recipe = decide(self.recipe, self.out) if self.recipe.choose else self.recipe
        cells = itertools.filterfalse(recipe.open, self.cells)
        return [Run(recipe, cell, seed, self.data_root, self.out) for cell in cells for seed in self.seeds]

    def possible_tests(self, first: bool = False) -> list[Run]:
        """Return what `tests` may come to, whatever is chosen, or only as if each `first` trial were the best."""
        if self.recipe.choose is None:
            return self.tests()
        number = 1 if first else len(next(iter(self.recipe.choose.grid.values())))
        decided = [replace(self.recipe, chosen=dict.fromkeys(self.cells, place)) for place in range(number)]
        places = itertools.product(decided, self.cells, self.seeds)
        return [Run(recipe, cell, seed, self.data_root, self.out) for recipe, cell, seed in places]


@dataclass(frozen=True)
class Outcome:
    """What the runs of a trial came to.

    Attributes:
        values: the accuracy of each seed on the images held out, in percent; fewer than all of an unfinished trial.
        finished: whether every run has ended.
        diverged: whether the loss of one did not stay finite; such a trial is never chosen.
    """

    values: list[float]
    finished: bool
    diverged: bool

    def __str__(self) -> str:
        if self.diverged:
            return "diverged"
        spread = f" ± {statistics.stdev(self.values):.2f}" if len(self.values) > 1 else ""
        return f"{statistics.fmean(self.values):.2f}{spread}" if self.finished else "not finished"


def trials(recipe: Recipe) -> Recipe:
    """Return the trials of `recipe` as a recipe: trial N of method M is its method M-N, with what is held out."""
    choose, methods = recipe.choose, {}
    for name, entry in recipe.methods.items():
        for number, trial in enumerate(choose.grid[name], 1):
            flags = {**choose.options, **trial}
            own = {dataset: {**entry["per_dataset"].get(dataset, {}), **flags} for dataset in recipe.datasets}
            methods[_method(name, number)] = {**entry, "per_dataset": own, "title": f"{entry['title']}, {label(trial)}"}
    protocols = {choose.protocol: recipe.protocols[choose.protocol]} if choose.protocol else recipe.protocols
    return replace(
        recipe,
        seeds=choose.seeds,
        protocols=protocols,
        methods=methods,
        scores={},
        title=f"{recipe.title}, trials",
        measures={"acc": {"title": "top-1 accuracy in % on held-out training images", "from": choose.measure}},
        published={},
        choose=None,
        chosen={},
        folder=FOLDER,
    )


def _method(name: str, number: int) -> str:
    return f"{name}-{number}"


def of_cell(recipe: Recipe, cell: Cell) -> list[Cell]:
    """Return the cells of the trials by which the options of `cell` are chosen, in the order of its grid."""
    protocol, count = recipe.choose.protocol or cell.protocol, len(recipe.choose.grid[cell.method])
    return [Cell(cell.dataset, protocol, _method(cell.method, number)) for number in range(1, count + 1)]


def of_cells(recipe: Recipe, cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of the trials of all `cells`, each once."""
    return list(dict.fromkeys(trial for cell in cells for trial in of_cell(recipe, cell)))


def outcome(tried: Recipe, cell: Cell, out: Path) -> Outcome:
    """Return what the runs of a cell of `tried`, the trials of a recipe, came to so far."""
    runs = [Run(tried, cell, seed, "", out) for seed in tried.seeds]
    states = [run.state() for run in runs]
    values = [run.values()["acc"] for run, state in zip(runs, states) if state == "finished"]
    return Outcome(values, {*states} <= {"finished", "diverged"}, "diverged" in states)


def decide(recipe: Recipe, out: Path) -> Recipe:
    """Return `recipe` with the choice for each cell whose trials have ended: the best mean, of equal ones the first."""
    tried, chosen = trials(recipe), {}
    found = {cell: outcome(tried, cell, out) for cell in of_cells(recipe, recipe.cells())}
    for cell in recipe.cells():
        outcomes = [found[trial] for trial in of_cell(recipe, cell)]
        means = [None if each.diverged else statistics.fmean(each.values) for each in outcomes if each.finished]
        if len(means) == len(outcomes) and any(mean is not None for mean in means):
            chosen[cell] = means.index(max(mean for mean in means if mean is not None))
    return replace(recipe, chosen=chosen)


def undecided(recipe: Recipe, cells: Iterable[Cell], out: Path) -> dict[str, str]:
    """Return why the options of some of `cells` are still open, by their names."""
    tried, decided, reasons = trials(recipe), decide(recipe, out), {}
    for cell in filter(decided.open, cells):
        ended = all(outcome(tried, trial, out).finished for trial in of_cell(recipe, cell))
        reasons[" ".join(cell)] = f"no test: {'every trial diverged' if ended else 'a trial is not finished'}"
    return reasons


def is_result(run: Run, reason: str) -> bool:
    """Return whether the `reason` of a failure is a trial's result, that it diverged; leave a file that says so."""
    diverged = run.recipe.folder == FOLDER and reason.endswith(f"(exit code {Diverged.exit_code})")
    if diverged:
        write_text(run.diverged, f"{reason}\n")
    return diverged


def section(recipe: Recipe, out: Path) -> list[str]:
    """Return the trials of a decided recipe as Markdown: a row for each method, the chosen one in bold."""
    choose, tried = recipe.choose, trials(recipe)
    how = ", ".join(f"{flag} {value}".strip() for flag, value in choose.options.items())
    seeds = ", ".join(map(str, choose.seeds))
    lines = [
        f"Trials: top-1 accuracy in % on training images held out by {how}, mean over the seeds {seeds}. They did not "
        "see the test images. The best of each method, in bold, of equal ones the first, was trained with nothing held "
        "out, and scored above.",
        "",
    ]
    for dataset, protocol, name in tables.columns(tried):
        title = ", ".join(tables.titles(tried, dataset, protocol, name))
        lines += [f"## Trials: {title}", "", *_table(recipe, tried, dataset, protocol, out), ""]
    return lines


def _table(recipe: Recipe, tried: Recipe, dataset: str, protocol: str, out: Path) -> list[str]:
    count = len(next(iter(recipe.choose.grid.values())))
    heads = [f"trial {number}" for number in range(1, count + 1)]
    lines = [f"| method | {' | '.join(heads)} |", "|---" * (count + 1) + "|"]
    for method, entry in recipe.methods.items():
        cell, texts = Cell(dataset, protocol, method), []
        for place, (trial_cell, trial) in enumerate(zip(of_cell(recipe, cell), recipe.choose.grid[method])):
            text = f"{label(trial)}: {outcome(tried, trial_cell, out)}"
            texts.append(f"**{text}**" if place == recipe.chosen.get(cell) else text)
        lines.append(f"| {entry['title']} | {' | '.join(texts)} |")
    return lines

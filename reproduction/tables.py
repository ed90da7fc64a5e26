"""Measured beside published: the runs as CSV, the cells as Markdown."""

from __future__ import annotations

import csv
import io
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.intervals import interval
from reproduction import paired
from reproduction.grid import label
from reproduction.recipes import Cell, Recipe
from reproduction.runs import Run
from utils.project import typed

Cells = dict[tuple[Cell, str], "Measured"]  # by cell and name of the measure
COLUMNS = ("last_acc", "best_acc", "best_step", "samples_sha256", "run")


@dataclass(frozen=True)
class Measured:
    """One measure of one cell over its seeds.

    Attributes:
        values: of the finished runs, in order of seed.
        published: the published number and its deviation as text, empty if there is none.
        seconds: duration of each run.
        counts: how many images each run scored out of fold; empty where nothing was.
    """

    values: list[float]
    published: tuple[str, str]
    seconds: list[float]
    counts: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None without a run."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, over n - 1; None with fewer than two runs."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> str:
        """Wilson's 95 % interval of the mean as of one accuracy: another seed scores the same images again."""
        if not self.counts:
            return ""
        return "{:.1f} to {:.1f}".format(*interval(self.mean / 100 * self.counts[0], self.counts[0]))


def collect(recipe: Recipe, runs: list[Run]) -> Cells:
    """Return every measure of every cell over the finished `runs`."""
    cells = {
        (cell, name): Measured([], recipe.published.get((cell, name), ("", "")), [])
        for cell in recipe.cells()
        for name in recipe.measures
    }
    for run in runs:
        seconds, counts = run.seconds(), [run.pooled()["count"]] if run.folds else []
        for name, value in run.values().items():
            cells[run.cell, name].values.append(value)
            cells[run.cell, name].seconds.append(seconds)
            cells[run.cell, name].counts.extend(counts)
    return cells


def results(recipe: Recipe, runs: list[Run]) -> str:
    """Return one line of CSV for each of `runs`, without anything that differs between repetitions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Cell._fields, "seed", *recipe.measures, *COLUMNS])
    for run in runs:
        summary = run.summary()
        numbers = [f"{value:.6g}" for value in run.values().values()]
        while_training = [f"{summary[name]['acc']:.6g}" for name in ("last", "best")] + [summary["best"]["step"]]
        if run.folds:  # those are of images that the network of all images was trained on
            while_training = [""] * len(while_training)
        writer.writerow([*run.cell, run.seed, *numbers, *while_training, summary["samples_sha256"], run.name])
    return text.getvalue()


def markdown(recipe: Recipe, cells: Cells, runs: list[Run], picture: str, more: Sequence[str] = ()) -> str:
    """Return `cells` as Markdown: a table for each data set, protocol and measure; `picture`, if any, is linked.

    `more` are lines that follow.
    """
    lines = [f"# {recipe.title}", ""]
    if recipe.note:
        lines += [recipe.note, ""]
    lines += [f"Measured: {measures_title(recipe)}; mean ± sample standard deviation over the seeds.", ""]
    if recipe.published:
        lines += ["Published: as it was printed. Difference: measured - published.", ""]
    if picture:
        lines += [f"![measured and published]({picture})", ""]
    for dataset, protocol, name in columns(recipe):
        lines += [
            f"## {', '.join(titles(recipe, dataset, protocol, name))}",
            "",
            *_table(recipe, cells, dataset, protocol, name),
            "",
            *(paired.section(recipe, runs, dataset, protocol) if _pools(recipe, name) else []),
            *(_choice(recipe, cells, runs, dataset, protocol, name) if recipe.ranked else []),
        ]
    lines += more
    done = sum(1 for measured in cells.values() if measured.values)
    lines.append(f"{len(runs)} finished runs; {done} of {len(cells)} cells have a number.")
    return "\n".join(lines) + "\n"


def columns(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Return the data set, protocol and measure of each column."""
    return [(d, p, m) for d in recipe.datasets for p in recipe.protocols for m in recipe.measures]


def titles(recipe: Recipe, dataset: str, protocol: str, measure: str) -> list[str]:
    """Return the titles of a column; the measure only if there are several."""
    axes = [recipe.datasets[dataset]["title"], recipe.protocols[protocol]["title"]]
    return axes + ([recipe.measures[measure]["title"]] if len(recipe.measures) > 1 else [])


def digits(recipe: Recipe, measure: str) -> int:
    """Return the number of decimals of `measure`."""
    return int(recipe.measures[measure].get("digits", "2"))


def measures_title(recipe: Recipe) -> str:
    """Return the titles of the measures, with a caution if the checkpoint was chosen on the images it is scored on."""
    measures = [entry["title"] for entry in recipe.measures.values()]
    chosen = any(entry["from"].startswith("best.") for entry in recipe.measures.values())
    caution = " (the best of a run's evaluations: chosen on the very images it is reported on)"
    return ", ".join(measures) + (caution if chosen else "")


def _table(recipe: Recipe, cells: Cells, dataset: str, protocol: str, name: str) -> list[str]:
    head, lines = rows(recipe, cells, dataset, protocol, name)
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(line) + " |" for line in lines),
    ]


def rows(recipe: Recipe, cells: Cells, dataset: str, protocol: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Return the heads of a column's table, and a row of texts for each method."""
    measured = {method: cells[Cell(dataset, protocol, method), name] for method in recipe.methods}
    compared = any(row.published[0] for row in measured.values())
    head = ["method", "measured", "seeds", *(["published", "difference"] if compared else [])]
    head += ["95 % interval"] if _pools(recipe, name) else []
    head += ["chosen"] if recipe.choose else []
    if recipe.ranked:
        head.append("seconds a run")
        measured = {method: measured[method] for method in _best_first(measured)}
    lines = []
    for method, row in measured.items():
        mean, deviation, places = row.mean, row.deviation, digits(recipe, name)
        shown = "" if mean is None else f"{mean:.{places}f}"
        texts = [
            recipe.methods[method]["title"],
            shown if deviation is None else f"{shown} ± {deviation:.{places}f}",
            str(len(row.values)) if row.values else "",
        ]
        if compared:
            number, spread = row.published
            texts.append(f"{number} ± {spread}" if spread else number)
            texts.append(f"{mean - float(number):+.{places}f}" if number and mean is not None else "")
        texts += [row.interval] if _pools(recipe, name) else []
        texts += [_chosen(recipe, Cell(dataset, protocol, method))] if recipe.choose else []
        if recipe.ranked:
            texts.append(f"{statistics.fmean(row.seconds):.0f}" if row.seconds else "")
        lines.append(texts)
    return head, lines


def _pools(recipe: Recipe, name: str) -> bool:
    """Return whether a measure is the accuracy over all images, each scored out of fold."""
    return recipe.measures[name]["from"] == "folds.acc"


def _chosen(recipe: Recipe, cell: Cell) -> str:
    """Return the options that were chosen for a cell in words; nothing while they are open."""
    return label(recipe.choose.grid[cell.method][recipe.chosen[cell]]) if cell in recipe.chosen else ""


def _best_first(rows: dict[str, Measured]) -> list[str]:
    return sorted(rows, key=lambda method: -math.inf if rows[method].mean is None else rows[method].mean, reverse=True)


def _choice(recipe: Recipe, cells: Cells, runs: list[Run], dataset: str, protocol: str, name: str) -> list[str]:
    """Return lines with the run to keep, the standard error, and the command that repeats the run."""
    rows = {method: cells[Cell(dataset, protocol, method), name] for method in recipe.methods}
    first = _best_first(rows)[0]
    if not rows[first].values:
        return []
    run = max((run for run in runs if run.cell == (dataset, protocol, first)), key=lambda run: run.values()[name])
    summary = run.summary()
    count = summary["scored_on"]["images"]
    share = (rows[first].mean / 100 * count + 2) / (count + 4)  # Agresti and Coull's, for 100 % has an error too
    error = 100 * math.sqrt(share * (1 - share) / (count + 4))
    known = {**summary["options"], "folds": run.settings.get("folds")}  # actual paths, where the recipe has {data_root}
    flags = {flag: value and str(known.get(flag, value)) for flag, value in run.settings.items()}
    flags.update({flag: str(known[flag]) for flag in ("train_dir", "seed")})
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value) if word]
    return [
        f"First is {recipe.methods[first]['title']}. On {count} images an accuracy like this has a standard error of "
        f"{error:.1f} points: methods that are no further apart are level, and the cheaper one will do.",
        "",
        f"To keep: `{run.file('_Last.pdparams')}`. The command that makes it again:",
        "",
        f"    {typed('finetune.py')} {shlex.join(words)}",
        "",
    ]

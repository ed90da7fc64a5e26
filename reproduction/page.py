"""The report of a recipe as a page: its tables, the dots, the curves of its runs, and what they were made by."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from evaluation import charts, markup
from evaluation.charts import Dot, Line
from evaluation.intervals import interval
from evaluation.markup import Cell as Entry
from evaluation.markup import Section, escaped, number
from evaluation.page import NAME, SHARES, points
from reproduction.recipes import Cell, Recipe
from reproduction.runs import Run
from reproduction.tables import Cells, columns, digits, measures_title, rows, titles
from training.table import read_rows
from utils.files import write_text
from utils.project import typed

WORDS = ("method", "chosen")  # columns of text

Summaries = list[tuple[Run, dict[str, Any]]]


def write(recipe: Recipe, cells: Cells, runs: list[Run], out: Path) -> None:
    """Write the page of the finished `runs` of a recipe, `index.html` in `out`; `cells` are their measures."""
    summaries = [(run, run.summary()) for run in runs]
    done = sum(1 for measured in cells.values() if measured.values)
    lead = f"{escaped(recipe.note, 4000)}</p>\n<p>" if recipe.note else ""
    lead += f"{len(runs)} finished runs; {done} of {len(cells)} cells have a number."
    parts = [
        Section("scores", "Scores", _scores(recipe, cells)),
        Section("runs", "Runs", _runs(recipe, summaries)),
        Section("training", "Training", _curves(recipe, runs)),
        Section("how", "What was trained, and how", _how(recipe, summaries)),
    ]
    write_text(out / NAME, markup.document(recipe.title, lead, parts))


def _scores(recipe: Recipe, cells: Cells) -> str:
    parts = [f"<p>Measured: {escaped(measures_title(recipe))}; mean ± sample standard deviation over the seeds.</p>"]
    if recipe.published:
        parts.append("<p>Published: as it was printed. Difference: measured - published.</p>")
    if recipe.choose:
        parts.append("<p>Chosen by trials on held-out training images, which are in table.md and trials.csv.</p>")
    for dataset, protocol, name in columns(recipe):
        title = ", ".join(titles(recipe, dataset, protocol, name))
        head, lines = rows(recipe, cells, dataset, protocol, name)
        entries = [[_entry(text, what) for what, text in zip(head, line)] for line in lines]
        drawn = [
            Dot(recipe.methods[method]["title"], row.mean, row.deviation, _number(row.published[0]))
            for method in recipe.methods
            for row in [cells[Cell(dataset, protocol, method), name]]
        ]
        kinds = "filled: measured" + (", hollow: published" if recipe.published else "")
        chart = charts.dots(f"{title}: the measured means of the table as dots", drawn)
        parts.append(
            f'<h3>{escaped(title)}</h3>\n<div class="side">\n'
            f'<div class="titled">{markup.table(title, head, entries)}</div>\n'
            f"<figure>{chart}<figcaption>{kinds}; a line is the standard deviation over the seeds</figcaption></figure>"
            "\n</div>"
        )
    return "\n".join(parts)


def _entry(text: str, head: str) -> Entry:
    """Return a text of the column `head` as a cell, sorted by the number that it begins with in a column of numbers."""
    if head in WORDS:
        return Entry(escaped(text))
    value = _number(text.split(" ")[0])
    return Entry(escaped(text), math.nan if value is None else value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _runs(recipe: Recipe, summaries: Summaries) -> str:
    entries = []
    for run, summary in summaries:
        row = [Entry(escaped(run.title))]
        for name, value in run.values().items():
            row.append(number(value, f"{{:.{digits(recipe, name)}f}}"))
            if _metric(recipe, name) in SHARES:
                row.append(_interval(run, name, value, summary))
        row.append(number(run.seconds(), "{:.0f}"))
        entries.append(row)
    heads = ["run"]
    for name, measure in recipe.measures.items():
        heads.append(measure["title"] if len(recipe.measures) > 1 else name)
        if _metric(recipe, name) in SHARES:
            heads.append("95 % interval")
    told = "Each run by itself: the interval (Wilson) is that of its images alone, not of other seeds"
    return markup.table(told, [*heads, "seconds"], entries, tall=True) if entries else "<p>No run is finished.</p>"


def _metric(recipe: Recipe, name: str) -> str:
    """Return the name of the number that a measure is."""
    return recipe.measures[name]["from"].split(".")[-1]


def _interval(run: Run, name: str, value: float, summary: dict[str, Any]) -> Entry:
    """Return the interval of a measure that is a share of images; an empty cell where their number is not known."""
    origin = run.recipe.measures[name]["from"].split(".")[0]
    if origin in run.recipe.scores:
        count = json.loads(run.scoring()[origin][1].read_text(encoding="utf-8"))[0].get("count")
    elif origin == "folds":
        count = run.pooled()["count"]
    else:
        count = summary.get("scored_on", {}).get("images")
    if not count or not math.isfinite(value):
        return Entry("", math.nan)
    low, high = interval(round(value * count / 100), count)
    return Entry(f"{low:.1f} to {high:.1f}", low)


def _curves(recipe: Recipe, runs: list[Run]) -> str:
    """Return a small chart for each cell, a line for each seed or fold; of a data set and protocol with one scale."""
    parts = []
    for dataset in recipe.datasets:
        for protocol in recipe.protocols:
            drawn = {method: [] for method in recipe.methods}
            for run in runs:
                if run.cell[:2] == (dataset, protocol):
                    drawn[run.cell.method] += _lines(run, len(drawn[run.cell.method]))
            drawn = {method: each for method, each in drawn.items() if any(len(line.points) > 1 for line in each)}
            if drawn:
                axes = [recipe.datasets[dataset]["title"], recipe.protocols[protocol]["title"]]
                parts.append(f'<h3>{escaped(", ".join(axes))}</h3>\n<div class="small">{_cells(recipe, drawn)}</div>')
    what = "fold and seed" if any(run.folds for run in runs) else "seed"
    note = f"Top-1 accuracy in % at each evaluation of a run, against its step; a line for each {what}."
    return (
        "\n".join([f'<p class="quiet">{note}</p>', *parts]) if parts else "<p>No run was evaluated more than once.</p>"
    )


def _lines(run: Run, colour: int) -> list[Line]:
    """Return the line of a run, or one for each of its folds: the run of all images is scored on those it has seen."""
    tables = run.files(".csv")[:-1] if run.folds else [run.file(".csv")]
    titles = [f"seed {run.seed}, fold {number}" for number in range(1, run.folds + 1)] or [f"seed {run.seed}"]
    return [
        Line(title, points(read_rows(table), "val_acc"), colour + place)
        for place, (title, table) in enumerate(zip(titles, tables))
    ]


def _cells(recipe: Recipe, drawn: dict[str, list[Line]]) -> str:
    everything = [point for each in drawn.values() for line in each for point in line.points]
    x, y = (charts.limits([point[axis] for point in everything]) for axis in (0, 1))
    figures = []
    for method, each in drawn.items():
        title = recipe.methods[method]["title"]
        ends = ", ".join(f"{line.title} {line.points[-1][1]:.3g} %" for line in each if line.points)
        chart = charts.lines(f"{title}, accuracy by step, at the end: {ends}", each, ("step", "accuracy in %"), x, y)
        figures.append(f"<figure>{chart}<figcaption>{escaped(title)}: {charts.legend(each)}</figcaption></figure>")
    return "".join(figures)


def _how(recipe: Recipe, summaries: Summaries) -> str:
    known = {
        "recipe": recipe.path,
        "seeds": _each(run.seed for run, _ in summaries),
        **{f"option {name}": value or "yes" for name, value in recipe.options.items()},
        "versions": _each(_listed(summary.get("versions")) for _, summary in summaries),
        "machine": _each(_listed(summary.get("machine")) for _, summary in summaries),
        "device": _each(summary.get("device") for _, summary in summaries),
        "threads": _each(summary.get("threads") for _, summary in summaries),
        "code": _each(summary.get("git") for _, summary in summaries),
        "page written": time.strftime("%Y-%m-%d %H:%M"),
    }
    report = f"{typed('test.py')} --report DIR --ckpts FILE"
    return markup.facts(known) + (
        "\n<p>The settings of a run are in its folder below <code>runs</code>, in the .yaml. What a single network "
        f"takes for what, its confidence and its mistakes: <code>{report}</code>.</p>"
    )


def _each(values: Any) -> str:  # noqa: ANN401
    """Return the different ones of `values`, in their order, as text."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _listed(values: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) if isinstance(values, dict) else ""

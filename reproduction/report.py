"""The report of a recipe: results.csv, table.md, table.png and the page index.html, of its trials trials.csv."""

from __future__ import annotations

from pathlib import Path

from reproduction import choice, dotplot, page, tables
from reproduction.recipes import Recipe
from reproduction.runs import Run, finished
from utils.errors import warn
from utils.files import write_text
from utils.optional import absent

PICTURE = "table.png"


def write(recipe: Recipe, out: Path) -> str:
    """Write the files from the finished runs below `out`; return the table as Markdown.

    A recipe with `choose` has a file more, `trials.csv`, and its trials and what they chose are in the table. Without
    matplotlib a line of warning takes the place of the picture.
    """
    tried = []
    if recipe.choose:
        recipe = choice.decide(recipe, out)
        tried = choice.section(recipe, out)
        trials = choice.trials(recipe)
        ended = [run for run in finished(trials, out) if run.seed in trials.seeds]
        write_text(out / "trials.csv", tables.results(trials, ended))
    runs = finished(recipe, out)
    cells = tables.collect(recipe, runs)
    lacking = absent("matplotlib")
    table = tables.markdown(recipe, cells, runs, "" if lacking else PICTURE, tried)
    write_text(out / "results.csv", tables.results(recipe, runs))
    write_text(out / "table.md", table)
    page.write(recipe, cells, runs, out)
    if lacking:
        warn(f"{out}: without {PICTURE}: {lacking}")
    else:
        dotplot.draw(out / PICTURE, recipe, cells)
    return table


def values(run: Run) -> str:
    """Return the measures of a finished run in one line."""
    return ", ".join(f"{name} {value:.{tables.digits(run.recipe, name)}f}" for name, value in run.values().items())

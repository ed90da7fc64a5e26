"""The report of a recipe: results.csv, table.md, table.png and the page index.html."""

from __future__ import annotations

from pathlib import Path

from reproduction import dotplot, page, tables
from reproduction.recipes import Recipe
from reproduction.runs import Run, finished
from utils.errors import warn
from utils.files import write_text
from utils.optional import absent

PICTURE = "table.png"


def write(recipe: Recipe, out: Path) -> str:
    """Write the four files from the finished runs below `out`; return the table as Markdown.

    Without matplotlib a line of warning takes the place of the picture.
    """
    runs = finished(recipe, out)
    cells = tables.collect(recipe, runs)
    lacking = absent("matplotlib")
    table = tables.markdown(recipe, cells, runs, "" if lacking else PICTURE)
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

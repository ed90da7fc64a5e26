"""The report of a recipe: results.csv, table.md, table.png and the page index.html."""

from __future__ import annotations

from pathlib import Path

from reproduction import dotplot, page, tables
from reproduction.recipes import Recipe
from reproduction.runs import Run, finished
from utils.files import write_text

PICTURE = "table.png"


def write(recipe: Recipe, out: Path) -> str:
    """Write the four files from the finished runs below `out`; return the table as Markdown."""
    runs = finished(recipe, out)
    cells = tables.collect(recipe, runs)
    table = tables.markdown(recipe, cells, runs, PICTURE)
    write_text(out / "results.csv", tables.results(recipe, runs))
    write_text(out / "table.md", table)
    dotplot.draw(out / PICTURE, recipe, cells)
    page.write(recipe, cells, runs, out)
    return table


def values(run: Run) -> str:
    """Return the measures of a finished run in one line."""
    return ", ".join(f"{name} {value:.{tables.digits(run.recipe, name)}f}" for name, value in run.values().items())

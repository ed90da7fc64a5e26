"""The plot of a table: a panel for each column, a row for each method, measured dots and hollow published ones."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation import figures
from reproduction.recipes import Cell, Recipe
from reproduction.tables import Measured, columns, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURED, PUBLISHED = "#1f5a94", "#c05a1c"
CHARACTERS = 13  # per inch of the title


def draw(path: Path, recipe: Recipe, cells: dict[tuple[Cell, str], Measured]) -> None:
    """Draw `cells` as a PNG; a cell that was not run has no dot."""
    panels = columns(recipe)
    across = len(recipe.protocols) * len(recipe.measures)
    down, methods = len(panels) // across, list(recipe.methods)
    width, height = 1.8 + 2.6 * across, 1.5 + (0.6 + 0.26 * len(methods)) * down
    single = next(iter(recipe.measures.values()))["title"] if len(recipe.measures) == 1 else ""
    lines = [textwrap.fill(text, int(CHARACTERS * width)) for text in (recipe.title, single) if text]
    with figures.figure(path, (width, height)) as figure:
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes, (dataset, protocol, name) in zip(grid.flat, panels):
            _panel(axes, [cells[Cell(dataset, protocol, method), name] for method in methods])
            *above, last = titles(recipe, dataset, protocol, name)
            axes.set_title(f"{', '.join(above)}\n{last}", fontsize=9)
            axes.set_yticks(range(len(methods)), [recipe.methods[method]["title"] for method in methods], fontsize=9)
            axes.set_ylim(len(methods) - 0.5, -0.5)
        figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left")
        _legend(figure, bool(recipe.published))


def _panel(axes: Axes, rows: list[Measured]) -> None:
    shift = 0.16 if any(row.published[0] for row in rows) else 0.0  # side by side, for the two are often equal
    for place, row in enumerate(rows):
        number, spread = row.published
        if number:
            _dot(axes, float(number), float(spread or 0), place + shift, PUBLISHED, "white")
        if row.mean is not None:
            _dot(axes, row.mean, row.deviation or 0, place - shift, MEASURED, MEASURED)
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", alpha=0.15)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.08)
    if not axes.collections and not axes.lines:
        axes.set_xticks([])


def _dot(axes: Axes, value: float, spread: float, place: float, colour: str, fill: str) -> None:
    bars = {"xerr": spread, "elinewidth": 1, "capsize": 2} if spread else {}
    axes.errorbar(value, place, fmt="o", markersize=5, color=colour, markerfacecolor=fill, zorder=3, **bars)


def _legend(figure: Figure, compared: bool) -> None:
    from matplotlib.lines import Line2D

    kinds = [("measured, mean ± std over seeds", MEASURED, MEASURED)]
    kinds += [("published", PUBLISHED, "white")] if compared else []
    handles = [
        Line2D([], [], marker="o", markersize=5, linestyle="", color=colour, markerfacecolor=fill, label=label)
        for label, colour, fill in kinds
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=8, frameon=False)

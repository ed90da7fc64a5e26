"""Methods compared on the same images, each image scored by the network of the fold that it was held out of."""

from __future__ import annotations

import csv

import numpy as np

from evaluation.comparison import compare
from reproduction.recipes import Recipe
from reproduction.runs import Run

HEAD = ("method", "seed", "images", "points", "95 % interval", "only this one right", "only the first right", "p")


def answers(run: Run) -> dict[tuple[str, str], bool]:
    """Return whether the network of its fold has each image of a finished run with folds right, by path and fold."""
    with open(run.file("_folds.csv"), encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {(row["path"], row["fold"]): row["correct"] == "1" for row in csv.DictReader(file)}


def section(recipe: Recipe, runs: list[Run], dataset: str, protocol: str) -> list[str]:
    """Return Markdown that compares the methods of a column with the first of the recipe, by McNemar's test.

    Two methods are compared by the runs of the lowest seed that both have finished: equal seeds have equal folds.

    Args:
        recipe: whose runs have folds.
        runs: the finished ones.
        dataset, protocol: of the column.
    """
    of_method = {method: {} for method in recipe.methods}
    for run in runs:
        if (run.cell.dataset, run.cell.protocol) == (dataset, protocol) and run.folds:
            of_method[run.cell.method][run.seed] = run
    first, *others = of_method
    rows = [row for other in others if (row := _row(recipe, of_method[first], of_method[other]))]
    if not rows:
        return []
    return [
        f"Image by image against {recipe.methods[first]['title']}, on the same folds of one seed: the difference of "
        "the accuracies with an interval by bootstrap, and McNemar's exact test, not corrected for their number.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---" * len(HEAD) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def _row(recipe: Recipe, first: dict[int, Run], other: dict[int, Run]) -> list[str]:
    """Return the cells of a comparison, of runs by seed; none without a common seed."""
    common = sorted(first.keys() & other.keys())
    if not common:
        return []
    seed = common[0]
    title, ours, theirs = recipe.methods[other[seed].cell.method]["title"], answers(other[seed]), answers(first[seed])
    if ours.keys() != theirs.keys():
        return [title, str(seed), "other images", *[""] * (len(HEAD) - 3)]
    right = [np.array([answer[image] for image in sorted(theirs)]) for answer in (theirs, ours)]
    found = compare(*right)
    numbers = (f"{found.difference:+.2f}", f"{found.low:+.2f} to {found.high:+.2f}", str(found.only_b))
    return [title, str(seed), str(found.count), *numbers, str(found.only_a), f"{found.p_value:.2g}"]

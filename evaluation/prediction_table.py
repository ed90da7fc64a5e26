"""The table of labelled images, as CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat

from evaluation.error_analysis import Ranking, csv_text, ranking_cells
from evaluation.prediction import Neighbours


def table(
    paths: list[str],
    rankings: list[Ranking],
    form: str,
    rejected: Sequence[bool] | None = None,
    shares: Sequence[dict[str, float]] | None = None,
    nearest: Sequence[Neighbours] | None = None,
) -> str:
    """Return a table of the images as text.

    Args:
        paths: the images.
        rankings: the likeliest classes of each.
        form: "csv" or "json".
        rejected: of each whether it is rejected, so that its classes have no names; None where none can be.
        shares: of each the probability of every class by its name; None to leave them out.
        nearest: of each the images nearest to it; None to leave them out.
    """
    if rejected is not None:
        rankings = [[("", p) for _, p in each] if no else each for each, no in zip(rankings, rejected)]
    row = _entry if form == "json" else _cells
    columns = (repeat(None) if each is None else each for each in (rejected, nearest, shares))
    rows = [row(*each) for each in zip(paths, rankings, *columns)]
    return json.dumps(rows, indent=2) + "\n" if form == "json" else csv_text(rows)


def _entry(
    path: str, ranking: Ranking, rejected: bool | None, nearest: Neighbours | None, shares: dict[str, float] | None
) -> dict:
    """Return an image of a JSON table."""
    entry: dict = {"path": path, "top": [{"class": name, "probability": round(p, 6)} for name, p in ranking]}
    if rejected is not None:
        entry["rejected"] = bool(rejected)
    if nearest is not None:
        entry["nearest"] = [{"path": other, "cosine": cosine} for other, cosine in nearest]
    if shares is not None:
        entry["probabilities"] = {name: round(p, 6) for name, p in shares.items()}
    return entry


def _cells(
    path: str, ranking: Ranking, rejected: bool | None, nearest: Neighbours | None, shares: dict[str, float] | None
) -> dict:
    """Return an image of a CSV table; no other column begins with the `p_` of the classes."""
    cells = {"path": path, **ranking_cells(ranking)}
    if rejected is not None:
        cells["rejected"] = int(rejected)
    for place, (other, cosine) in enumerate(nearest or (), 1):
        ending = f"_{place}" if place > 1 else ""
        cells.update({f"nearest{ending}": other, f"cosine{ending}": f"{cosine:.6f}"})
    return {**cells, **{f"p_{name}": f"{p:.6f}" for name, p in (shares or {}).items()}}

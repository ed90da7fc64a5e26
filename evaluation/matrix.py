"""The confusion matrix on a page: a table of numbers for few classes, else one small picture; and the worst pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from evaluation.error_analysis import confused_pairs
from evaluation.markup import Cell, escaped, number, picture, table

FEW = 30  # classes whose numbers fit into a table
MOST_CELLS = 800  # along a side of the picture; of more classes neighbours share one
PAIRS = 15  # listed
_NAME = 24  # letters of a name beside the table
_RIGHT, _WRONG = (58, 124, 204), (206, 68, 50)


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """Return the matrix [K, K], true classes as rows and predicted ones as columns, and the most confused pairs."""
    shown = _numbers(matrix, class_names) if len(class_names) <= FEW else _shades(matrix)
    pairs = confused_pairs(matrix, list(class_names))
    if not pairs:
        return f"{shown}\n<p>No image was taken for one of another class.</p>"
    rows = [
        [
            Cell(escaped(pair["true"])),
            Cell(escaped(pair["predicted"])),
            number(pair["images"], "{}"),
            number(float(pair["share"]), "{:.1f} %"),
        ]
        for pair in pairs[:PAIRS]
    ]
    caption = f"The most confused pairs, {len(rows)} of {len(pairs)}; the share is of the true class's images"
    return f"{shown}\n<h3>Most confused</h3>\n{table(caption, ('true', 'predicted', 'images', 'share'), rows)}"


def _numbers(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    names = [escaped(name if len(name) <= _NAME else f"{name[: _NAME - 1]}…") for name in class_names]
    shares = np.sqrt(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))  # a single image stays visible
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = ["".join(_cell(matrix, shares, row, column) for column in range(len(names))) for row in range(len(names))]
    body = "\n".join(f'<tr><th scope="row">{name}</th>{line}</tr>' for name, line in zip(names, lines))
    title = "Confusion matrix: true classes are rows, predicted ones columns"
    return (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table class="matrix">'
        f"<caption>{title}; darker is a larger share of the row, blue right and red wrong</caption>\n"
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(matrix: np.ndarray, shares: np.ndarray, row: int, column: int) -> str:
    count = int(matrix[row, column])
    if not count:
        return "<td></td>"
    kind = "right" if row == column else "wrong"
    return f'<td class="{kind}" style="--a:{0.65 * shares[row, column]:.2f}">{count}</td>'  # the number stays legible


def _shades(matrix: np.ndarray) -> str:
    """Return the matrix as a picture with a pixel for each cell, transparent where there is no image."""
    count = len(matrix)
    group = math.ceil(count / MOST_CELLS)
    starts = np.arange(0, count, group)
    coarse = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    right = np.add.reduceat(matrix.diagonal(), starts)
    wrong = coarse - np.diag(right)
    total = np.maximum(coarse.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((len(starts), len(starts), 4), dtype="uint8")
    pixels[:, :, :3] = np.where((wrong >= np.diag(right))[:, :, None], _WRONG, _RIGHT)
    pixels[:, :, 3] = 255 * np.sqrt(coarse / total)
    alt = (
        f"Confusion matrix of {count} classes: {int(matrix.trace())} of {int(matrix.sum())} images on the diagonal; "
        "the table below lists the most confused pairs"
    )
    several = f"; a pixel holds {group} neighbouring classes" if group > 1 else ""
    caption = (
        "True classes are rows, predicted ones columns, both in the order of the network's outputs; stronger is a "
        f"larger share of the row, blue right and red wrong{several}. confusion.csv has every number."
    )
    shown = picture(Image.fromarray(pixels), alt, "heat", "PNG")
    return f"<figure>{shown}<figcaption>{escaped(caption)}</figcaption></figure>"

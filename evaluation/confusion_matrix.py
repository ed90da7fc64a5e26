"""The picture of a confusion matrix."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from datasets.sheet import BLUE, RED
from evaluation import figures
from utils.words import printable

_NAME = 40  # letters of a class name beside the matrix
_INK, _PAPER = "#222222", "#ffffff"


def draw(path: str | os.PathLike, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix, true classes as rows and predicted ones as columns, as a PNG.

    Args:
        path: the file.
        matrix: numbers of images, [K, K].
        class_names: the K names, cut off after 40 letters; above 400 classes only every second, third ... is shown.
    """
    count = len(class_names)
    cell = min(0.45, max(0.11, 10 / count), 44 / count)  # inches
    side, points = max(3, count * cell), min(9, max(0.11, cell) * 57)
    places = range(0, count, math.ceil(count / 400))
    digits = min(points, 100 * cell / len(str(matrix.max())))
    names = [printable(class_names[place]) for place in places]
    names = [name if len(name) <= _NAME else name[: _NAME - 1] + "…" for name in names]
    with figures.figure(path, (side, side), layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1))  # names and legend lie outside; the file is as large as all together
        axes.imshow(_shades(matrix), interpolation="nearest")
        axes.set_xticks(places, names, rotation=90, fontsize=points)
        axes.set_yticks(places, names, fontsize=points)
        axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="#e4e4e4", linewidth=0.4)
        axes.tick_params(which="both", length=0)
        for row, column in zip(*matrix.nonzero()) if count <= 40 else ():
            colour = _PAPER if matrix[row, column] > 0.4 * matrix[row].sum() else _INK
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=digits, color=colour)
        axes.set(xlabel="predicted class (columns)", ylabel="true class (rows)")
        for name, colour in (("right", BLUE), ("wrong", RED)):
            axes.plot([], [], "s", color=colour, label=name)
        title = "darker: a larger share of the row"
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, title=title)


def _shades(matrix: np.ndarray) -> np.ndarray:
    """Return the colours of the cells, [K, K, 3]: white to blue on the diagonal, white to red elsewhere."""
    from matplotlib.colors import to_rgb

    share = np.sqrt(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))  # a single image stays visible
    full = np.where(np.eye(len(matrix), dtype=bool)[:, :, None], to_rgb(BLUE), to_rgb(RED))
    return 1 - share[:, :, None] * (1 - full)

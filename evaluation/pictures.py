"""Pictures of predictions: contact sheets of images, and the confusion matrix."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from datasets.decoder import opened, to_rgb
from evaluation import figures
from utils.files import replacing

BLUE, GREEN, RED = "#2f6db3", "#3a8f4f", "#c0392b"

_NAME = 40  # letters of a class name beside the matrix
_THUMB, _GAP, _CAPTION, _LINE = 160, 18, 46, 14  # pixels
_INK, _GREY, _PAPER, _MOUNT = "#222222", "#767676", "#ffffff", "#eeeeee"


class Tile(NamedTuple):
    """One image of a sheet.

    Attributes:
        path: the image file.
        name: its predicted class.
        share: the probability of that, 0 to 1, or NaN.
        note: a last, quieter line.
        colour: of the bar that shows `share`.
        more: further classes with their probabilities, a line each.
    """

    path: str | os.PathLike
    name: str
    share: float
    note: str
    colour: str = BLUE
    more: Sequence[tuple[str, float]] = ()


def contact_sheet(path: str | os.PathLike, title: str, tiles: Sequence[Tile]) -> None:
    """Draw `tiles` row by row as a PNG, each whole image in a square with names, probabilities and note below it."""
    columns = min(10, max(4, math.ceil(math.sqrt(1.4 * len(tiles)))))
    rows = math.ceil(len(tiles) / columns)
    lines = max((len(tile.more) for tile in tiles), default=0)
    across, down, top = _THUMB + _GAP, _THUMB + _CAPTION + _LINE * lines + _GAP, 58
    page = Image.new("RGB", (_GAP + columns * across, top + rows * down), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, 18), _shortened(title, _font(18, True), page.width - 2 * _GAP), _INK, _font(18, True))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, upper = _GAP + column * across, top + row * down
        page.paste(_thumbnail(tile.path), (left, upper))
        _caption(draw, tile, left, upper + _THUMB)
    with replacing(path) as temporary:
        page.save(temporary, format="PNG")


def confusion_matrix(path: str | os.PathLike, matrix: np.ndarray, class_names: Sequence[str]) -> None:
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
    names = [figures.printable(class_names[place]) for place in places]
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


def _thumbnail(path: str | os.PathLike) -> Image.Image:
    with opened(path) as image:
        rgb = to_rgb(image, upright=True)
        if max(rgb.size) > _THUMB * min(rgb.size):  # ImageOps would round the shorter side to 0
            rgb = rgb.resize([max(1, side * _THUMB // max(rgb.size)) for side in rgb.size])
        return ImageOps.pad(rgb, (_THUMB, _THUMB), Image.Resampling.BICUBIC, _MOUNT)


def _caption(draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    draw.rectangle((left, top + 3, left + _THUMB - 1, top + 6), fill=_MOUNT)
    filled = round(_THUMB * min(max(0, tile.share), 1))
    if filled:
        draw.rectangle((left, top + 3, left + filled - 1, top + 6), fill=tile.colour)
    _named(draw, tile.name, tile.share, left, top + 11, tile.colour, _font(12), _font(12, True))
    for number, (name, share) in enumerate(tile.more):
        _named(draw, name, share, left, top + 28 + _LINE * number, _INK, _font(11), _font(11))
    note = _shortened(tile.note, _font(10), _THUMB)
    draw.text((left, top + 28 + _LINE * len(tile.more)), note, _GREY, _font(10))


def _named(
    draw: ImageDraw.ImageDraw,
    name: str,
    share: float,
    left: int,
    top: int,
    colour: str,
    plain: ImageFont.FreeTypeFont,
    face: ImageFont.FreeTypeFont,
) -> None:
    text = f"{100 * share:.0f} %"
    width = math.ceil(plain.getlength(text))
    draw.text((left + _THUMB - width, top), text, colour, plain)
    draw.text((left, top), _shortened(name, face, _THUMB - width - 6), _INK, face)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return `text`, its end cut off where it is longer than `width` pixels."""
    shown = text = figures.printable(text)
    while text and font.getlength(shown) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # it ships the fonts

    face = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", face)), size)

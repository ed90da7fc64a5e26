"""Contact sheets: many images on one page, each with a few words below it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from datasets.decoder import opened, to_rgb
from utils.files import replacing
from utils.words import printable

BLUE, GREEN, RED = "#2f6db3", "#3a8f4f", "#c0392b"

_THUMB, _GAP, _CAPTION, _LINE = 160, 18, 46, 14  # pixels
_INK, _GREY, _PAPER, _MOUNT = "#222222", "#767676", "#ffffff", "#eeeeee"


class Tile(NamedTuple):
    """One image of a sheet.

    Attributes:
        path: the image file.
        name: its predicted or its own class.
        share: the probability of that, 0 to 1, or NaN; None without a prediction.
        note: a last, quieter line.
        colour: of the bar that shows `share`.
        more: further classes with their probabilities, a line each.
    """

    path: str | os.PathLike
    name: str
    share: float | None
    note: str
    colour: str = BLUE
    more: Sequence[tuple[str, float]] = ()


def contact_sheet(
    path: str | os.PathLike, title: str, tiles: Sequence[Tile | None], columns: int | None = None
) -> None:
    """Draw `tiles` row by row as a PNG, each whole image in a square with names, probabilities and note below it.

    Args:
        path: the file.
        title: of the page.
        tiles: in order; None leaves a place empty.
        columns: tiles in a row; by default 4 to 10, as many as make the page somewhat wider than high.
    """
    columns = columns or min(10, max(4, math.ceil(math.sqrt(1.4 * len(tiles)))))
    rows = math.ceil(len(tiles) / columns)
    lines = max((len(tile.more) for tile in tiles if tile), default=0)
    across, down, top = _THUMB + _GAP, _THUMB + _CAPTION + _LINE * lines + _GAP, 58
    page = Image.new("RGB", (_GAP + columns * across, top + rows * down), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, 18), _shortened(title, _font(18, True), page.width - 2 * _GAP), _INK, _font(18, True))
    for number, tile in enumerate(tiles):
        if tile is None:
            continue
        row, column = divmod(number, columns)
        left, upper = _GAP + column * across, top + row * down
        page.paste(_thumbnail(tile.path), (left, upper))
        _caption(draw, tile, left, upper + _THUMB)
    with replacing(path) as temporary:
        page.save(temporary, format="PNG")


def _thumbnail(path: str | os.PathLike) -> Image.Image:
    with opened(path) as image:
        rgb = to_rgb(image, upright=True)
        if max(rgb.size) > _THUMB * min(rgb.size):  # ImageOps would round the shorter side to 0
            rgb = rgb.resize([max(1, side * _THUMB // max(rgb.size)) for side in rgb.size])
        return ImageOps.pad(rgb, (_THUMB, _THUMB), Image.Resampling.BICUBIC, _MOUNT)


def _caption(draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    if tile.share is not None:
        draw.rectangle((left, top + 3, left + _THUMB - 1, top + 6), fill=_MOUNT)
    filled = round(_THUMB * min(max(0, tile.share or 0), 1))
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
    share: float | None,
    left: int,
    top: int,
    colour: str,
    plain: ImageFont.FreeTypeFont,
    face: ImageFont.FreeTypeFont,
) -> None:
    text = "" if share is None else f"{100 * share:.0f} %"
    width = math.ceil(plain.getlength(text))
    draw.text((left + _THUMB - width, top), text, colour, plain)
    draw.text((left, top), _shortened(name, face, _THUMB - width - 6), _INK, face)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return `text`, its end cut off where it is longer than `width` pixels."""
    shown = text = printable(text)
    while text and font.getlength(shown) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # it ships the fonts

    face = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", face)), size)

"""Charts as inline SVG: lines, the reliability diagram and rows of dots; colours are those of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.markup import escaped

COLOURS = 6  # classes c0 to c5 of the style sheet; after them the lines are dashed
_MOST_POINTS = 240  # of a line
_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44  # margins

Point = tuple[float, float]


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        title: in the legend.
        points: from left to right; those that are not finite are left out.
        colour: its place among the colours.
        dashed: how it is drawn.
    """

    title: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False

    @property
    def classes(self) -> str:
        """Its classes of the style sheet, besides that of its kind."""
        return f"c{self.colour % COLOURS}{' dashed' if self.dashed else ''}"


class Dot(NamedTuple):
    """A row of dots: a measured value with its spread, and a published one; None where there is none."""

    title: str
    value: float | None
    spread: float | None
    published: float | None


class Scale(NamedTuple):
    """The plane of a chart: what its edges stand for, and its titles."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str

    def place(self, x: float, y: float) -> Point:
        """Return where a point is drawn."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - self.y[0]) / (self.y[1] - self.y[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + across, 1), round(_HEIGHT - _BOTTOM - up, 1)

    def frame(self) -> str:
        """Return grid, numbers and titles."""
        parts = []
        for value in ticks(*self.y):
            x, y = self.place(self.x[0], value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        for value in ticks(*self.x):
            x, y = self.place(value, self.y[0])
            parts.append(f'<path class="axis" d="M{x} {y}v4"/>')
            parts.append(f'<text x="{x}" y="{y + 17}" text-anchor="middle">{value:g}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        bottom = _HEIGHT - _BOTTOM
        parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escaped(self.x_title)}</text>')
        turned = f'transform="rotate(-90)" x="{-(_TOP + bottom) / 2}" y="13" text-anchor="middle"'
        parts.append(f"<text {turned}>{escaped(self.y_title)}</text>")
        return "".join(parts)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return edges around the finite ones of `values`, apart from each other."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 0.5
    return low - margin, high + margin


def drawing(label: str, content: str, height: int = _HEIGHT) -> str:
    """Return an SVG element that is one picture, `label`, to a reader of the screen."""
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escaped(label)}">{content}</svg>'


def legend(lines: Sequence[Line]) -> str:
    """Return the titles of `lines` behind a piece of each."""
    piece = '<svg viewBox="0 0 26 10" aria-hidden="true"><path class="line {}" d="M0 5H26"/></svg>'
    return "".join(f'<span class="key">{piece.format(line.classes)}{escaped(line.title)}</span>' for line in lines)


def lines(
    label: str,
    drawn: Sequence[Line],
    titles: tuple[str, str],
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    mark: float | None = None,
) -> str:
    """Return a chart of lines.

    Args:
        label: what it shows, for those who do not see it.
        drawn: the lines.
        titles: of the axes.
        x, y: the edges of the plane; None for those of the lines.
        mark: where a vertical line stands; None for nowhere.
    """
    points = [_finite(line.points) for line in drawn]
    everything = [point for each in points for point in each]
    x = x or limits([point[0] for point in everything])
    y = y or limits([point[1] for point in everything])
    scale, parts = Scale(x, y, *titles), []
    if mark is not None and x[0] <= mark <= x[1]:
        across, bottom = scale.place(mark, y[0])
        parts.append(f'<path class="mark" d="M{across} {_TOP}V{bottom}"/>')
    for line, each in zip(drawn, points):
        places = [scale.place(*point) for point in each]
        if len(places) == 1:
            parts.append(_circle(places[0], f"dot {line.classes}"))
        elif places:
            path = "L".join(f"{x:g} {y:g}" for x, y in places)
            parts.append(f'<path class="line {line.classes}" d="M{path}"/>')
    return drawing(label, scale.frame() + "".join(parts))


def _finite(points: Sequence[Point]) -> list[Point]:
    """Return the finite ones of `points`, of many `_MOST_POINTS` that are evenly spread."""
    kept = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    places = np.unique(np.linspace(0, max(0, len(kept) - 1), min(len(kept), _MOST_POINTS)).round().astype(int))
    return [kept[place] for place in places]


def _circle(place: Point, kind: str) -> str:
    return f'<circle class="{kind}" cx="{place[0]}" cy="{place[1]}" r="4"/>'


def reliability(label: str, bins: Sequence[tuple[float, float, float, float, float, float]]) -> str:
    """Return the reliability diagram: a bar for each bin up to its accuracy, its interval, and a dot on the line.

    Args:
        label: what it shows, for those who do not see it.
        bins: lower end, upper end, mean confidence, accuracy, and the ends of the accuracy's interval, all in percent.
    """
    scale = Scale((0, 100), (0, 100), "confidence in %", "accuracy in %")
    parts = []
    for low, high, confidence, accuracy, least, most in bins:
        (left, top), (right, bottom) = scale.place(low, accuracy), scale.place(high, 0)
        size = f'width="{right - left - 1:.1f}" height="{bottom - top:.1f}"'
        parts.append(f'<rect class="bar" x="{left + 0.5:.1f}" y="{top}" {size}/>')
        across, bottom = scale.place(confidence, least)
        parts.append(f'<path class="rule c0" d="M{across} {bottom}V{scale.place(confidence, most)[1]}"/>')
        parts.append(_circle(scale.place(confidence, accuracy), "dot c0"))
    (x, y), (right, top) = scale.place(0, 0), scale.place(100, 100)
    diagonal = f'<path class="axis dashed" d="M{x} {y}L{right} {top}"/>'
    return drawing(label, scale.frame() + diagonal + "".join(parts))


def dots(label: str, rows: Sequence[Dot]) -> str:
    """Return a chart with a row for each of `rows`: a filled dot and its spread, and a hollow one as published."""
    ends = [end for row in rows if row.value is not None for end in _ends(row)]
    low, high = limits([*ends, *(row.published for row in rows if row.published is not None)])
    left, step = 170, 24
    height = step * len(rows) + 34

    def across(value: float) -> float:
        return round(left + (value - low) / (high - low) * (_WIDTH - _RIGHT - left), 1)

    parts = []
    for value in ticks(low, high, 6):
        x = across(value)
        parts.append(f'<path class="grid" d="M{x} 4V{height - 26}"/>')
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{value:g}</text>')
    for place, row in enumerate(rows):
        y = step * place + 16
        name = row.title if len(row.title) <= 24 else f"{row.title[:23]}…"
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escaped(name)}</text>')
        if row.published is not None and math.isfinite(row.published):
            parts.append(_circle((across(row.published), y), "hollow c1"))
        if row.value is not None and math.isfinite(row.value):
            start, end = (across(value) for value in _ends(row))
            parts.append(f'<path class="line c0" d="M{start} {y}H{end}"/>')
            parts.append(_circle((across(row.value), y), "dot c0"))
    return drawing(label, "".join(parts), height)


def _ends(row: Dot) -> tuple[float, float]:
    spread = row.spread if row.spread is not None and math.isfinite(row.spread) else 0.0
    return row.value - spread, row.value + spread

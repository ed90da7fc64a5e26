"""Draw docs/methods.svg, the table of methods on the front page as dots: `python -m tests.picture_of_methods`."""

from __future__ import annotations

import re

from evaluation.charts import limits, ticks
from evaluation.markup import escaped
from tests.scripts import ROOT

PICTURE = ROOT / "docs" / "methods.svg"
NAMES, PANEL, GAP, ROW, TOP, BOTTOM = 120, 256, 24, 30, 70, 44  # pixels
NUMBER = re.compile(r"(\d+\.\d+) ± (\d+\.\d+)")


Value = "tuple[float, float] | str"  # mean and deviation, or the words in their place


def table() -> tuple[list[str], list[tuple[str, list[Value]]]]:
    """Return the titles of the columns, and for each method its name and its value in each column."""
    rows = [
        [cell.strip() for cell in line.strip("|\n ").split("|")]
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    (_, *titles), *methods = rows
    found = []
    for name, *cells in methods:
        numbers = [(NUMBER.match(cell), cell) for cell in cells]
        values = [(float(each[1]), float(each[2])) if each else cell for each, cell in numbers]
        found.append((name.split("`")[1], values))
    return titles, found


def draw() -> str:
    """Return the picture as SVG in the colours of the pages, which follow the reader's colour scheme."""
    titles, methods = table()
    width = NAMES + len(titles) * (PANEL + GAP)
    height = TOP + ROW * len(methods) + BOTTOM
    colours, dark = re.findall(r":root \{(.*?)\}", (ROOT / "evaluation" / "page.css").read_text("utf-8"), re.DOTALL)
    style = (
        f":root{{{colours}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        'text{font:18px system-ui,"DejaVu Sans",sans-serif;fill:var(--ink)}.quiet{fill:var(--quiet)}'
        "path{stroke:var(--line)}.spread{stroke:var(--blue);stroke-width:3}circle{fill:var(--blue)}rect{fill:var(--paper)}"
    )
    parts = [
        f'<text x="{NAMES - 8}" y="{_row(place) + 6}" text-anchor="end">{escaped(name)}</text>'
        for place, (name, _) in enumerate(methods)
    ]
    for place, title in enumerate(titles):
        left = NAMES + place * (PANEL + GAP)
        parts += _panel(left, title, [numbers[place] for _, numbers in methods])
    label = "Top-1 accuracy of the methods in percent, as in the table of the front page"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">\n'
        f"<style>{style}</style>\n"
        + f'<rect width="{width}" height="{height}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _row(place: int) -> float:
    return TOP + ROW * (place + 0.5)


def _panel(left: float, title: str, rows: list[Value]) -> list[str]:
    numbers = [each for each in rows if isinstance(each, tuple)]
    low, high = limits([mean + sign * spread for mean, spread in numbers for sign in (-1, 1)])
    end = _row(len(rows) - 0.5)

    def across(value: float) -> float:
        return round(left + (value - low) / (high - low) * PANEL, 1)

    kind, _, size = title.partition(", ")
    middle = left + PANEL / 2
    parts = [
        f'<text x="{middle}" y="26" text-anchor="middle">{escaped(kind)}</text>',
        f'<text class="quiet" x="{middle}" y="50" text-anchor="middle">{escaped(size)}</text>',
    ]
    for value in ticks(low, high, 4):
        parts.append(f'<path d="M{across(value)} {TOP}V{end}"/>')
        parts.append(f'<text class="quiet" x="{across(value)}" y="{end + 26}" text-anchor="middle">{value:g} %</text>')
    for place, value in enumerate(rows):
        y = _row(place)
        if isinstance(value, str):
            parts.append(f'<text class="quiet" x="{middle}" y="{y + 6}" text-anchor="middle">{escaped(value)}</text>')
            continue
        mean, spread = value
        parts.append(f'<path class="spread" d="M{across(mean - spread)} {y}H{across(mean + spread)}"/>')
        parts.append(f'<circle cx="{across(mean)}" cy="{y}" r="6"/>')
    return parts


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")

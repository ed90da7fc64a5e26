"""One HTML file that needs no other: its frame, tables that sort, pictures, and text made harmless."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import NamedTuple

from PIL import Image

from utils.words import printable

MOST_ROWS = 1000  # of a table: a page stays one that a browser opens at once
_COMMAND = 4000  # letters of a fact, which may be a command


class Section(NamedTuple):
    """A part of a page.

    Attributes:
        name: what links to it say after the `#`.
        title: its heading, plain text.
        content: HTML.
    """

    name: str
    title: str
    content: str


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        content: HTML.
        value: the number that it is sorted by; None for text, which is sorted by itself, NaN where there is none.
    """

    content: str
    value: float | None = None


def escaped(text: object, longest: int = 300) -> str:
    """Return `text` for HTML, in an element or an attribute: on one line, cut off after `longest` letters."""
    line = printable(str(text))
    return html.escape(line if len(line) <= longest else f"{line[: longest - 1]}…")


def number(value: float | None, form: str = "{:.2f}") -> Cell:
    """Return a number as a cell, empty where there is none; one that is not finite is sorted as if there were none."""
    if value is None:
        return Cell("", math.nan)
    return Cell(escaped(form.format(value)), float(value))


def document(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a page.

    Args:
        title: plain text.
        lead: the HTML below it.
        sections: the parts in order.
    """
    script = _part("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = [
        f'<section id="{part.name}" aria-labelledby="{part.name}-title">\n'
        f'<h2 id="{part.name}-title">{escaped(part.title)}</h2>\n{part.content}\n</section>'
        for part in sections
    ]
    return Template(_part("page.html")).substitute(
        title=escaped(title),
        lead=lead,
        style=_part("page.css").strip(),
        script=script,
        script_hash=f"sha256-{allowed}",
        links="".join(f'<li><a href="#{part.name}">{escaped(part.title)}</a></li>' for part in sections),
        sections="\n".join(parts),
    )


@cache
def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], ordered_by: str = "", tall: bool = False
) -> str:
    """Return a table whose columns can be sorted, of at most `MOST_ROWS` rows.

    Args:
        caption: plain text.
        heads: of the columns, plain text; the first column names the row.
        rows: the cells.
        ordered_by: the head of the column by which the rows are in ascending order; "" if by none.
        tall: whether to show it in a box that scrolls.
    """
    numeric = [any(row[place].value is not None for row in rows) for place in range(len(heads))]
    kinds = [' class="number"' if each else "" for each in numeric]
    top = "".join(
        f'<th scope="col"{kind}{_sorted(head == ordered_by)}><button type="button">{escaped(head)}</button></th>'
        for head, kind in zip(heads, kinds)
    )
    body = "\n".join(_row(row, kinds) for row in rows[:MOST_ROWS])
    more = f"; {MOST_ROWS} of {len(rows)} rows" if len(rows) > MOST_ROWS else ""
    box = "scroll tall" if tall else "scroll"
    return (
        f'<div class="{box}" role="region" aria-label="{escaped(caption)}" tabindex="0">\n<table class="sorts">'
        f'<caption>{escaped(caption)}{more}<span class="hint">; the buttons in its head sort it</span></caption>\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</div>"
    )


def _sorted(this: bool) -> str:
    return ' aria-sort="ascending"' if this else ""


def _row(row: Sequence[Cell], kinds: Sequence[str]) -> str:
    cells = []
    for place, (cell, kind) in enumerate(zip(row, kinds)):
        value = "" if cell.value is None else f' data-v="{cell.value if math.isfinite(cell.value) else ""}"'
        element = "td" if place else "th"
        scope = "" if place else ' scope="row"'
        cells.append(f"<{element}{scope}{kind}{value}>{cell.content}</{element}>")
    return f"<tr>{''.join(cells)}</tr>"


def facts(pairs: dict[str, object]) -> str:
    """Return names and values as a list; values that are None or empty are left out."""
    known = {name: value for name, value in pairs.items() if value not in (None, "")}
    items = [f"<dt>{escaped(name)}</dt><dd>{escaped(value, _COMMAND)}</dd>" for name, value in known.items()]
    return f"<dl>{''.join(items)}</dl>"


def picture(image: Image.Image, alt: str, kind: str = "", form: str = "JPEG") -> str:
    """Return `image` as an element that holds its bytes; `alt` is plain text, `kind` a class of the style sheet."""
    content = io.BytesIO()
    image.save(content, format=form, **({"quality": 85} if form == "JPEG" else {"optimize": True}))
    data = base64.b64encode(content.getvalue()).decode()
    shown = f' class="{kind}"' if kind else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img{shown} {size} alt="{escaped(alt)}" src="data:image/{form.lower()};base64,{data}">'

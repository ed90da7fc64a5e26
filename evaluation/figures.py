"""Figures of matplotlib: one look for all, whatever a person's own settings of matplotlib are."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from utils.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def canvas(size: tuple[float, float], dpi: int, **options: object) -> Iterator[Figure]:
    """Yield an empty figure on a canvas in memory; text in it is drawn as it stands, `$` too.

    Args:
        size: width and height in inches.
        dpi: pixels in an inch.
        options: further arguments of `Figure`.
    """
    import matplotlib  # takes half a second: only where a picture is drawn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        figure = Figure(size, dpi, **{"layout": "constrained", **options})
        FigureCanvasAgg(figure)
        yield figure
    gc.collect()  # a figure refers to itself; without this, old ones come to 5 % of the memory of a run


@contextlib.contextmanager
def figure(path: str | os.PathLike, size: tuple[float, float], **options: object) -> Iterator[Figure]:
    """Yield an empty figure as of `canvas`; write it to `path` as a PNG when the block ends well.

    With `layout=None` the picture is cut to what was drawn, or grows where something lies outside of the figure.
    """
    with canvas(size, 120, **options) as drawn:
        yield drawn
        with replacing(path) as temporary:
            drawn.savefig(temporary, format="png", bbox_inches=None if drawn.get_layout_engine() else "tight")

"""Progress bars: on a terminal, or in a notebook; none where the output is a file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable | None = None, **settings: Any) -> tqdm:
    """Return tqdm's bar with `settings`, which vanishes at its end unless `leave` is true.

    In a notebook it is tqdm's own for notebooks where ipywidgets is installed, else one of text in the cell's output,
    drawn once a second: `tqdm.auto` would show none, for the output of a cell is not a terminal.
    """
    settings = {"leave": False, **settings}
    if not in_notebook():
        return tqdm(iterable, **{"disable": None, **settings})
    if importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget(iterable, **settings)
    return tqdm(iterable, **{"file": sys.stdout, "mininterval": 1.0, **settings})


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config

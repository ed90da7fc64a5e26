"""The project itself: its version, where its code is, how its scripts are started: from a clone, or installed."""

from __future__ import annotations

import sys
from pathlib import Path

VERSION = "1.0.0"
SCRIPTS = ("finetune", "test", "predict", "export", "reproduce")
PACKAGE = "smile_finetuning"  # what holds the rooms and the scripts where the project is installed
ROOT = Path(__file__).resolve().parent.parent  # the folder of the rooms and the scripts
PREFIX = __name__.partition("utils.")[0]  # of the names of modules: "" in a clone, "smile_finetuning." when installed
SEARCHED = ROOT.parent if PREFIX else ROOT  # the folder on Python's path that these names are found in


def prog(script: str) -> str:
    """Return what a person types for `script`, as `finetune.py` or `python -m datasets.prepare`; `smile-finetune`."""
    return f"smile-{script.removesuffix('.py').rpartition('.')[2]}" if PREFIX else script


def typed(script: str) -> str:
    """Return the start of a command line with `script`, such as `python finetune.py` or `smile-finetune`."""
    return prog(script) if PREFIX else f"python {script}"


def command(script: str) -> list[str]:
    """Return the words that run `script`, such as `finetune.py`, in a process of its own.

    An installed one is no file to be run, for its folder would then be searched for modules before all others, and the
    working directory is not searched either.
    """
    if not PREFIX:
        return [sys.executable, str(ROOT / script)]
    module = PREFIX + script.removesuffix(".py")
    path = f"import sys; sys.path[:] = [*filter(None, sys.path), {str(SEARCHED)!r}]"
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"{path}; {run}"]

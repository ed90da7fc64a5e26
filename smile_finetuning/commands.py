"""The commands of the installed project: each runs its script as `python SCRIPT.py` does in a clone."""

from __future__ import annotations

import runpy
from functools import partial

from utils import project


def run(script: str) -> None:
    """Run the module `script` with the words of the command line; exits as the script does."""
    runpy.run_module(project.PREFIX + script, run_name="__main__", alter_sys=True)


finetune, test, predict, export, reproduce, prepare = (
    partial(run, script) for script in ("finetune", "test", "predict", "export", "reproduce", "datasets.prepare")
)

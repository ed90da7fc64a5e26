"""Run finetune.py's main for several methods in this one process; every run leaves what a crash would leave, too.

python -m tests.interrupted {whole,resume} FOLDER SOURCE NAME...
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

from utils import startup

startup.configure()

import finetune
import regularizers
from evaluation import curves
from tests.scripts import tiny
from training.step import train_step

SHORT = {
    "clean_tail": 2,
    "reinits": 3,
    "cutmix_prob": 1.0,
    "attention_batches": 1,
    "self_label": True,
    "correct_epoch": 1,
}


class Crash(BaseException):
    """Ends a run as a power cut would: nothing is saved after it."""


def crashing(after: int, crash: BaseException):
    """Return a `train_step` that ends in `crash` after so many updates."""

    def step_or_crash(model, regularizer, optimizer, meter, batch, step, *more):
        if step == after:
            raise crash
        return train_step(model, regularizer, optimizer, meter, batch, step, *more)

    return step_or_crash


def copying(after: int, folder: Path, run: str, *arguments):
    """Make an update; after so many copy the files of `run` from "whole" to "half", as a power cut would leave them."""
    _, _, optimizer, _, _, step, *_ = arguments
    if step == after and optimizer.ranks.first:
        for path in (folder / "whole").glob(f"{run}[_.]*"):
            (folder / "half").mkdir(exist_ok=True)
            shutil.copy2(path, folder / "half")
        shutil.copytree(folder / "whole_curves" / run, folder / "half_curves" / run)
    return train_step(*arguments)


def draw_nothing() -> None:
    """Leave out the pictures, which take half the time of so short a run."""
    curves.draw = curves.VisualLog.image = lambda *_: None


def main(mode: str, folder: str, source: str, *names: str) -> None:
    """Train each of `names` for 9 steps, saving every third, into "whole"; or go on in "half" from a crash after 5."""
    draw_nothing()
    save = "whole" if mode == "whole" else "half"
    for name in names:
        if mode == "whole":
            finetune.train_step = functools.partial(copying, 5, Path(folder), f"dataset_{name}")
        own = regularizers.arguments(name)
        flags = [word for key, value in SHORT.items() if key in own for word in (f"--{key}", value)]
        places = [
            "--save",
            f"{folder}/{save}",
            "--log_dir",
            f"{folder}/{save}_curves",
            "--cache_dir",
            f"{folder}/cache",
        ]
        run = ["--max_iters", 9, "--save_frequency", 3, "--eval_frequency", 9, "--pretrained", source, *places]
        finetune.main(tiny("--regularizer", name, *flags, *run, *(["--resume"] if mode == "resume" else [])))


if __name__ == "__main__":
    main(*sys.argv[1:])

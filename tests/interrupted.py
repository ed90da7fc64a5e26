"""Run finetune.py's main for several methods in this one process, to the end or up to a crash.

python -m tests.interrupted {whole,crash,resume} FOLDER SOURCE NAME...
"""

from __future__ import annotations

import contextlib
import sys

from utils import startup

startup.configure()

import finetune
import regularizers
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


def main(mode: str, folder: str, source: str, *names: str) -> None:
    """Train each of `names` for 9 steps, saving every third; "crash" ends each one after step 5."""
    if mode == "crash":
        finetune.train_step = crashing(5, Crash())
    save = "whole" if mode == "whole" else "half"
    for name in names:
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
        resume = ["--resume"] if mode == "resume" else []
        with contextlib.suppress(Crash):
            finetune.main([*tiny("--regularizer", name, *flags, *run), *resume])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The embedded task, Latin to Greek: what `finetune.py` and `test.py` run on when there is no data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from datasets import glyphs
from utils import project
from utils.errors import Failure
from utils.shares import HalfLife, Period, Share

FOLDER = "latin_to_greek"
IMAGES_PER_CLASS = 3
GREEK_LETTERS = 24

SOURCE_OPTIONS = {
    "--name": "latin",
    "--regularizer": "l2",
    "--pretrained": "none",
    "--model_arch": "resnet8",
    "--image_size": 32,
    "--batch_size": 64,
    "--batch_size_eval": 64,
    "--max_iters": 700,
    "--lr": 0.05,
    "--lr_drop": 467,
    "--eval_frequency": 350,
    "--print_frequency": 50,
}


def root(cache_dir: str) -> Path:
    """Return the folder of the task's images and source network."""
    return Path(cache_dir) / FOLDER


def letters(cache_dir: str) -> Path:
    """Return the folder of the task's images."""
    return root(cache_dir) / "letters"


def source_path(cache_dir: str) -> str:
    """Return where the source network's checkpoint is, or will be."""
    return str(root(cache_dir) / "source" / "latin_l2_Last.pdparams")


def test_dir(cache_dir: str) -> Path:
    """Return the task's test images, which no run is scored on before its end."""
    return letters(cache_dir) / "greek" / "test"


def preset(given: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of the task beside the options in `given`; among them hyper-parameters for so short a run."""
    cache_dir = given.get("cache_dir", "./cache")
    updates = 300
    chosen = any(flag in given for flag in ("sample_rate", "sample_classes", "sample_list"))
    return {
        "name": "greek",
        "train_dir": str(letters(cache_dir) / "greek" / "train"),
        "eval_dir": str(letters(cache_dir) / "greek" / "val"),
        "pretrained": source_path(cache_dir),
        "model_arch": "resnet8",
        "image_size": 32,
        "batch_size": 32,
        "batch_size_eval": 64,
        "max_iters": updates,
        "lr": 0.02,
        "lr_drop": Period(200, updates),
        "eval_frequency": Period(50, updates),
        "print_frequency": Period(50, updates),
        "sample_total": None if chosen else GREEK_LETTERS * IMAGES_PER_CLASS,
        "ema_decay": HalfLife(0.99, updates),
        "clean_tail": Share(33, updates),
    }


def prepare(cache_dir: str, gpu: int, train: bool = True) -> None:
    """Draw the letters and `train` the source network, unless that was done before.

    Raises:
        Failure: the source network's training failed, with its exit code.
    """
    folder = letters(cache_dir)
    glyphs.write_task(folder)
    source = Path(source_path(cache_dir))
    if not train or source.with_name("latin_l2.json").exists():
        return
    print("training the source network on Latin letters, once ...", flush=True)
    places = {
        "--train_dir": folder / "latin" / "train",
        "--eval_dir": folder / "latin" / "test",
        "--save": source.parent,
        "--log_dir": source.parent / "visual_log",
        "--cache_dir": cache_dir,
        "--gpu": gpu,
    }
    flags = [str(word) for pair in {**SOURCE_OPTIONS, **places}.items() for word in pair]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PADDLE_")}  # no rank
    code = subprocess.run([*project.command("finetune.py"), "--resume", "auto", *flags], env=environment).returncode
    if code:
        failure = Failure("the source network of the embedded task could not be trained; its message stands above")
        failure.exit_code = code
        raise failure

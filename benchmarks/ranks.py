"""Images per second of two ranks of half a batch against one process of the whole batch, and the loss curves of both.

python benchmarks/ranks.py --json ranks.json

Both start `finetune.py` on the CPU, each process with one thread: plain fine-tuning from random weights on generated
JPEGs. The images per second are those of the training steps: starting, scoring, saving and waiting for images do not
count. With batch normalisation, whose statistics are those of each rank's share, the curves differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

from benchmarks import in_turns, show, write_json, write_photographs
from models import ARCHITECTURES
from training.table import read_rows
from utils import errors
from utils.commandline import Parser, number

ROOT = Path(__file__).resolve().parent.parent
RUNS = {"1 process": 1, "2 ranks": 2}
TARGET = 1.7  # images/s over those of one process, at least
POINTS = 5  # of a loss curve


def main(argv: list[str] | None = None) -> None:
    """Run both in turns, print images per second, their ratio and the two loss curves."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--model_arch", choices=tuple(ARCHITECTURES), default="resnet50", metavar="ARCH", help=" ")
    parser.add_argument("--image_size", type=count, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=number(int, 2), default=16, help="images in a step, over all ranks")
    parser.add_argument("--steps", type=count, default=20, help="updates of a run; the first ones are slow")
    parser.add_argument("--images", type=number(int, 8), default=64, help="how many are written")
    parser.add_argument("--repeats", type=count, default=3, help="turns that are measured")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by every run; this process only waits
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_photographs(folder / "images", options.images, (500, 375))
        work = {name: lambda name=name: images_per_second(folder, name, options) for name in RUNS}
        rates = in_turns(work, options.repeats)
        curves = {name: losses(folder, name) for name in RUNS}
    report(rates, curves, options)


def command(folder: Path, name: str, options: argparse.Namespace) -> list[str]:
    """Return the command line of the run `name` below `folder`."""
    log = str(folder / "log")
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(RUNS[name]), "--log_dir", log]
    every = max(1, options.steps // POINTS)
    flags = {
        "name": name,
        "overwrite": None,
        "regularizer": "l2",
        "pretrained": "none",
        "model_arch": options.model_arch,
        "train_dir": folder / "images",
        "val_split": 0.1,
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "max_iters": options.steps,
        "print_frequency": every,
        "eval_frequency": every,
        "save_frequency": options.steps,
        "save": folder / "output",
        "log_dir": folder / "visual_log",
        "cache_dir": folder / "cache",
        "gpu": -1,
    }
    words = [f"--{flag}" if value is None else f"--{flag}={value}" for flag, value in flags.items()]
    return [sys.executable, *(launcher if RUNS[name] > 1 else []), str(ROOT / "finetune.py"), *words]


def images_per_second(folder: Path, name: str, options: argparse.Namespace) -> float:
    """Run `name` and return the images of its steps over the time these took.

    Raises:
        Failure: the run failed; the message has the end of its output.
    """
    done = subprocess.run(
        command(folder, name, options), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise errors.Failure(f"the run of {name} failed: {done.stdout[-2000:]}")
    summary = json.loads((folder / "output" / f"{name}_l2.json").read_text())
    return options.steps * options.batch_size / (summary["seconds"] * summary["step_share"])


def losses(folder: Path, name: str) -> dict[int, float]:
    """Return the training loss of the last run of `name` by step: the mean since the step before."""
    rows = read_rows(folder / "output" / f"{name}_l2.csv")
    return {int(row["step"]): float(row["train_loss"]) for row in rows}


def report(rates: dict[str, list[float]], curves: dict[str, dict[int, float]], options: argparse.Namespace) -> None:
    """Print the medians, their ratio and the curves, write everything measured."""
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    one, two = RUNS
    ratio = medians[two] / medians[one]
    rows = [(one, f"{medians[one]:.2f}", 1.0, None), (two, f"{medians[two]:.2f}", ratio, TARGET)]
    show(("run", "images/s", "x 1 process", "at least"), rows)
    print()
    difference = max(abs(curves[two][step] - loss) / loss for step, loss in curves[one].items())
    show(("loss at step", *RUNS), [(str(step), loss, curves[two][step]) for step, loss in curves[one].items()])
    print(f"largest difference {100 * difference:.2f} %")
    results = {"images_per_second": medians, "ratio": ratio, "loss": curves, "difference": difference}
    write_json(options.json, options, {**results, "measured": rates})


if __name__ == "__main__":
    errors.run(main)

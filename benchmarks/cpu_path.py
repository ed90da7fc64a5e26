"""Training on this processor with and without MKL_DEBUG_CPU_TYPE=5, which the scripts set on AMD processors with AVX2.

python benchmarks/cpu_path.py --json cpu_path.json

Fresh processes in turns, for MKL reads the variable once. The bits differ between the two paths, the loss after one
update only by rounding. Where the ratio is 1, the library ignores the variable or needs none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import os
from functools import partial

import numpy as np

from benchmarks import in_turns, machine_line, show, write_json
from benchmarks.workload import OURS, measure
from models import ARCHITECTURES
from utils import errors
from utils.commandline import Parser, number
from utils.processor import AVX2, SETTING, is_amd_with_avx2

VALUES = {"without": "", "with": AVX2}  # an empty value keeps the scripts from setting one, and MKL ignores it
TARGET, TOLERANCE = 2.0, 1e-5  # for ResNet-50 on AMD: images/s over those without, at least; the losses' difference


def main(argv: list[str] | None = None) -> None:
    """Measure both in turns, print images per second, their ratio and the loss after one update."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--work", choices=("training", "evaluation"), default="training", help="what is measured")
    parser.add_argument("--model_arch", choices=tuple(ARCHITECTURES), default="resnet50", metavar="ARCH", help=" ")
    parser.add_argument("--image_size", type=count, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=count, default=16, help="images in a step")
    parser.add_argument("--steps", type=count, default=5, help="measured in a process")
    parser.add_argument("--repeats", type=count, default=3, help="processes of each kind")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    flags = {name: value for name, value in vars(options).items() if name not in ("repeats", "json")}
    threads = int(os.environ["OMP_NUM_THREADS"])
    work = {name: partial(measure, OURS, flags, threads, **{SETTING: value}) for name, value in VALUES.items()}
    report(in_turns(work, options.repeats, unmeasured=0), options)


def report(results: dict[str, list[dict]], options: argparse.Namespace) -> None:
    """Print the medians, their ratio and the losses, write everything measured."""
    medians = {name: float(np.median([run["images_per_second"] for run in runs])) for name, runs in results.items()}
    losses = {name: runs[0]["loss"] for name, runs in results.items()}
    target = TARGET if is_amd_with_avx2() and options.model_arch == "resnet50" else None
    ratios = {"without": (1.0, None), "with": (medians["with"] / medians["without"], target)}
    print(f"{machine_line()}, {os.environ['OMP_NUM_THREADS']} threads")
    texts = {name: "" if loss is None else f"{loss:.7f}" for name, loss in losses.items()}
    rows = [(f"{name} {SETTING}", f"{medians[name]:.2f}", *ratios[name], texts[name]) for name in results]
    show((options.work, "images/s", "ratio", "at least", "loss after one update"), rows)
    difference = None
    if None not in losses.values():
        difference = abs(losses["with"] - losses["without"])
        print(f"difference of the losses {difference:.1e}; at most {TOLERANCE:g} wanted")
    write_json(options.json, options, {"images_per_second": medians, "difference": difference, "measured": results})


if __name__ == "__main__":
    errors.run(main)

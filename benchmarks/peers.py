"""Images per second of this project over those of plain PyTorch, with the same threads on the same processor.

python benchmarks/peers.py --json peers.json

PyTorch and torchvision come with requirements-bench.txt; without them this project is measured alone. Every
measurement is a fresh process, those of the two libraries in turns; medians over the turns. Two ranks of half a batch
are compared with PyTorch's two, and with its one process on the same cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks import in_turns, machine_line, show, write_json
from benchmarks.workload import OURS, ROOT, measure
from utils import errors
from utils.commandline import Parser, number

PEER = ROOT / "_torch_workload.py"
LIBRARIES = {"ours": OURS, "PyTorch": PEER}
NETWORKS = {"resnet50": (224, 16), "resnet18": (128, 16)}  # image size, batch size
TARGET, RANKS_TARGET = 1.0, 1.25  # images/s over PyTorch's, at least


class Case(NamedTuple):
    """One piece of work and the processes that do it."""

    arch: str
    work: str
    threads: int
    ranks: int

    def __str__(self) -> str:
        count = f"{self.ranks} ranks" if self.ranks > 1 else f"{self.threads} thread{'s'[: self.threads - 1]}"
        return f"{self.arch} {self.work}, {count}"


def main(argv: list[str] | None = None) -> None:
    """Measure every case in turns, print the medians and their ratios."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS), help="which")
    parser.add_argument("--image_size", type=count, help="side in pixels (224 for resnet50, 128 for resnet18)")
    parser.add_argument("--batch_size", type=number(int, 2), help="images in a step (16)")
    parser.add_argument("--steps", type=count, default=5, help="measured in a process")
    parser.add_argument("--repeats", type=count, default=5, help="processes of each kind")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    libraries = dict(LIBRARIES)
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision")):
        print("PyTorch is not installed (requirements-bench.txt): this project alone is measured")
        del libraries["PyTorch"]
    work = {(case, name): partial(rate, case, name, options) for case in cases(options) for name in libraries}
    report(in_turns(work, options.repeats, unmeasured=0), options)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases: one thread and all, for training two ranks as well."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for arch in options.networks:
        for work in ("training", "evaluation"):
            yield from (Case(arch, work, threads, 1) for threads in sorted({1, cores}))
            if work == "training" and cores > 1:
                yield Case(arch, work, cores // 2, 2)


def rate(case: Case, library: str, options: argparse.Namespace) -> float:
    """Return the images per second of a fresh process, or of two."""
    size, batch = NETWORKS[case.arch]
    flags = {
        "work": case.work,
        "model_arch": case.arch,
        "image_size": options.image_size or size,
        "batch_size": options.batch_size or batch,
        "steps": options.steps,
    }
    return measure(LIBRARIES[library], flags, case.threads, case.ranks)["images_per_second"]


def report(rates: dict[tuple[Case, str], list[float]], options: argparse.Namespace) -> None:
    """Print the medians and their ratios, write everything measured."""
    medians = {key: float(np.median(values)) for key, values in rates.items()}
    rows = []
    for case in dict.fromkeys(case for case, _ in medians):
        ours = medians[case, "ours"]
        rows.append(_row(str(case), ours, medians.get((case, "PyTorch")), TARGET))
        one_process = case._replace(threads=case.threads * case.ranks, ranks=1)
        if case.ranks > 1 and (one_process, "PyTorch") in medians:
            rows.append(_row("  over one process", ours, medians[one_process, "PyTorch"], RANKS_TARGET))
    print(machine_line("torch", "torchvision"))
    show(("images/s", "ours", "PyTorch", "ratio", "at least"), rows)
    measured = [{**case._asdict(), "library": library, "rates": rates[case, library]} for case, library in rates]
    columns = ("work", "ours", "peer", "ratio", "at_least")
    write_json(options.json, options, {"medians": [dict(zip(columns, row)) for row in rows], "measured": measured})


def _row(name: str, ours: float, peer: float | None, target: float) -> tuple:
    ratio = None if peer is None else ours / peer
    return name, f"{ours:.2f}", None if peer is None else f"{peer:.2f}", ratio, target


if __name__ == "__main__":
    errors.run(main)

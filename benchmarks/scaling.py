"""Time and peak memory against the number of images and of classes: both should grow in proportion or not at all.

python benchmarks/scaling.py --json scaling.json

Every cell of the table is a run of small JPEGs (hard links to a few files) in a fresh process, that stops after its
first epoch, and a second process that goes on with it. Times are in microseconds an image: constant where the work is
linear; the smallest folders pay for what each run does once.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import itertools
import json
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable

from benchmarks import machine_line, seconds, show, write_json, write_photographs
from benchmarks.memory import resident
from datasets import splits
from datasets.loader import training_batches
from evaluation.scores import evaluate
from training.build import build
from training.options import Options
from training.state import restore, save
from utils import errors
from utils.commandline import Parser, number

IMAGES, CLASSES = [1_000, 10_000, 100_000], [10, 1_000]
BATCH = 64
FILES = 20  # that the images are links to; a file system may allow 65,000 links to each
PHASES = ("scan", "first pass", "later pass", "evaluation", "save", "resume")
TARGET = 1.25  # of the time of an image over that in the next smaller folder, at most


def main(argv: list[str] | None = None) -> None:
    """Measure every size, print the table."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--images", nargs="+", type=count, default=IMAGES, help="in a folder")
    parser.add_argument("--classes", nargs="+", type=count, default=CLASSES, help="of a folder")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the processes that it starts
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if options.folder:
        print(json.dumps((go_on if (options.folder / "last.pdparams").exists() else begin)(options.folder)))
        return
    results = []
    for classes, images in itertools.product(options.classes, sorted(options.images)):
        if images >= classes:
            results.append(measure(images, classes))
    report(results)
    write_json(options.json, options, {"measured": results})


def measure(images: int, classes: int) -> dict[str, float]:
    """Return the seconds of every phase and the peak memory in MB over that of an idle process.

    Raises:
        Failure: a process failed; its message stands above.
    """
    result = {"images": images, "classes": classes}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_links(folder, images, classes)
        command = [sys.executable, str(Path(__file__).resolve()), "--folder", scratch]
        for _ in ("the first epoch", "resumed"):
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise errors.Failure(f"{images} images of {classes} classes: failed; its message stands above")
            taken = json.loads(done.stdout.splitlines()[-1])
            result.update({**taken, "MB": max(taken["MB"], result.get("MB", 0))})
    return result


def write_links(folder: Path, images: int, classes: int) -> None:
    """Write `images` images in `classes` class folders of `folder`/images."""
    originals = sorted(write_photographs(folder / "originals", FILES, (16, 12)).rglob("*.jpg"))
    for label in range(classes):
        (folder / "images" / f"class{label:04d}").mkdir(parents=True)
    for i in range(images):
        os.link(originals[i % FILES], folder / "images" / f"class{i % classes:04d}" / f"image_{i:07d}.jpg")


def _options(folder: Path) -> Options:
    return Options.of(
        {
            "regularizer": "l2",
            "pretrained": "none",
            "model_arch": "resnet8",
            "train_dir": str(folder / "images"),
            "eval_dir": str(folder / "images"),
            "image_size": 8,
            "batch_size": BATCH,
            "cache_dir": str(folder / "cache"),
            "gpu": -1,
        }
    )


def begin(folder: Path) -> dict[str, float]:
    """Scan, decode, read an epoch, score and save; return the seconds of each and the peak memory in MB."""
    options, idle, taken = _options(folder), resident(os.getpid())["VmRSS"], {}

    def timed(phase: str, call: Callable[[], object]) -> None:
        taken[phase] = seconds(lambda: kept.append(call()))

    kept: list = []
    timed("scan", lambda: splits.scan_folders(options))
    train, evaluation = kept.pop()
    timed("first pass", lambda: splits.decode_once(train, "decoding"))
    run = build(options, train, [], {})
    batches = training_batches(train, BATCH, options.seed)
    timed("later pass", lambda: sum(1 for _ in zip(range(-(-len(train) // BATCH)), batches)))
    batches.close()
    timed("evaluation", lambda: evaluate(run.model, evaluation, BATCH))
    run.watch.start()
    timed("save", lambda: save(run, folder / "last.pdparams", 1, lambda _: None))
    return {**taken, "MB": (peak() - idle) / 1024}


def go_on(folder: Path) -> dict[str, float]:
    """Set up the run that `begin` saved; return the seconds of that and the peak memory in MB."""
    options, idle = _options(folder), resident(os.getpid())["VmRSS"]

    def resume() -> None:
        train, evaluation = splits.scan_folders(options)
        splits.decode_once(train, "checking")
        splits.decode_once(evaluation, "checking")
        restore(build(options, train, [], {}), folder / "last.pdparams")

    return {"resume": seconds(resume), "MB": (peak() - idle) / 1024}


def peak() -> int:
    """Return the most memory that was resident in this process, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def growth(results: list[dict[str, float]]) -> dict[str, float]:
    """Return for each phase the largest ratio of its time for an image to that in the next smaller folder."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for smaller, larger in zip(results, results[1:]):
        if smaller["classes"] == larger["classes"]:
            for phase in PHASES:
                ratios[phase].append(larger[phase] / larger["images"] / (smaller[phase] / smaller["images"]))
    return {phase: max(values) for phase, values in ratios.items()}


def report(results: list[dict[str, float]]) -> None:
    """Print the microseconds an image of every phase, the memory, and how the times of an image grow."""
    rows = []
    for result in results:
        times = (f"{1e6 * result[phase] / result['images']:.1f}" for phase in PHASES)
        rows.append((str(result["images"]), str(result["classes"]), *times, round(result["MB"])))
    print(machine_line())
    show(("images", "classes", *PHASES, "MB"), rows)
    for phase, ratio in growth(results).items():
        print(f"{phase}: the time of an image grows {ratio:.2f} times at most; {TARGET:g} or less wanted")


if __name__ == "__main__":
    errors.run(main)

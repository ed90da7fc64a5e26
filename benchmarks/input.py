"""Images per second of our batches and of the chain the reference builds, on generated JPEGs.

python benchmarks/input.py --json input.json

The reference: paddle.vision's DatasetFolder and transforms under paddle.io.DataLoader without worker processes.
Ours after the first pass: the decoded images mapped from the disk cache, cropped and flipped (uint8), and normalised
(float32) on the CPU. The first pass is the decoding, on one core and on two.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
from collections.abc import Iterator

import numpy as np
import paddle
import paddle.vision as vision
from paddle.vision import transforms

from benchmarks import in_turns, seconds, show, write_json, write_photographs
from datasets import loader
from datasets.cache import CachedImages
from datasets.folder import scan
from datasets.preprocess import MEAN, STD, Preprocess
from utils import errors
from utils.commandline import Parser, number

SEED = 0
PASSES = 10  # in a turn, over images that are decoded already: one would be over too soon
# images/s over those of the baseline, at least
TARGETS = {"uint8": ("reference", 20.0), "float32": ("reference", 8.0), "decoding, 2 cores": ("decoding, 1 core", 1.7)}


def main(argv: list[str] | None = None) -> None:
    """Measure everything in turns, print images per second and their ratios."""
    options = _options(sys.argv[1:] if argv is None else argv)
    paddle.set_device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_photographs(Path(scratch, "images"), options.images, options.size)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []  # Linux can be told which
        decoding = {f"decoding, {n} core{'s'[: n - 1]}": cores[:n] for n in (1, 2) if n <= len(cores)}
        images = decoded(folder, Path(scratch, "cache"))
        work = {
            "reference": lambda: options.images / seconds(lambda: reference_pass(folder, options.batch_size)),
            "uint8": lambda: rate(loader.ahead(_crops(images, options.batch_size)), options),
            "float32": lambda: rate(loader.training_batches(images, options.batch_size, SEED), options),
            **{
                name: lambda own=own: options.images / seconds(lambda: first_pass(folder, own))
                for name, own in decoding.items()
            },
        }
        rates = in_turns(work, options.repeats)
    report(rates, options)


def _options(argv: list[str]) -> argparse.Namespace:
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--images", type=count, default=200, help="how many are written")
    parser.add_argument("--size", type=_size, default=(500, 375), metavar="WxH", help="of the images, in pixels")
    parser.add_argument("--batch_size", type=count, default=48, help="the reference's is 48")
    parser.add_argument("--repeats", type=count, default=5, help="turns that are measured")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    return parser.parse_args(argv)


def _size(text: str) -> tuple[int, int]:
    width, times, height = text.partition("x")
    if not (times and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: accepted is WIDTHxHEIGHT in pixels, as in 500x375")
    return int(width), int(height)


def reference_pass(folder: Path, batch_size: int) -> None:
    """Load every image once as the reference does."""
    transform = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = vision.datasets.DatasetFolder(str(folder), transform=transform)
    for _ in paddle.io.DataLoader(images, num_workers=0, shuffle=True, batch_size=batch_size):
        pass


def decoded(folder: Path, cache: Path) -> loader.Dataset:
    """Return the images of `folder`, decoded into `cache`."""
    found = scan(folder)
    store = CachedImages(found, Preprocess(), cache)
    store.prepare(range(len(found)), "decoding")
    return loader.Dataset.of(store, found.class_names)


def first_pass(folder: Path, cores: list[int]) -> None:
    """Decode every image once on `cores`."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # the decoding threads inherit it
    try:
        with tempfile.TemporaryDirectory() as cache:
            decoded(folder, Path(cache))
    finally:
        os.sched_setaffinity(0, allowed)


def _crops(images: loader.Dataset, batch_size: int) -> Iterator:
    # private: what `training_batches` normalises and uploads
    return loader._augmented(images, batch_size, SEED, 0)


def rate(endless: Iterator, options: argparse.Namespace) -> float:
    """Return the images per second of the first batches of `endless`, which is closed."""
    count = -(-PASSES * options.images // options.batch_size)
    with contextlib.closing(endless):
        taken = seconds(lambda: [None for _ in itertools.islice(endless, count)])
    return count * options.batch_size / taken


def report(rates: dict[str, list[float]], options: argparse.Namespace) -> None:
    """Print the medians and their ratios, write everything measured."""
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    rows = []
    for name, median in medians.items():
        baseline, target = TARGETS.get(name, ("reference", None))
        rows.append((name, round(median), median / medians[baseline], f"x {baseline}", target))
    show(("batches", "images/s", "ratio", "over", "at least"), rows)
    write_json(options.json, options, {"images_per_second": medians, "measured": rates})


if __name__ == "__main__":
    errors.run(main)

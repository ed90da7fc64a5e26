"""Label images with a checkpoint, or with the mean of several.

python predict.py --ckpts output/pets_smile_Best.pdparams photos --sheet photos.png
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils import startup  # noqa: F401  it sets threads and memory up, so it comes before paddle

# isort: split
import numpy as np
import paddle
from scipy.special import softmax
from tqdm import tqdm

from checkpoints.classifier import Classifier
from datasets.cache import workers
from datasets.folder import EXTENSIONS, files_below
from datasets.loader import ahead, crop, normalise
from datasets.preprocess import decode
from evaluation import error_analysis, pictures
from models import ARCHITECTURES
from utils import device, errors
from utils.commandline import Parser, number
from utils.files import write_text

BATCH_SIZE_EVAL = 8  # the reference's
SHEET = 120  # images of a sheet at most

Found = dict[str, bool]  # the images in order, and whether each was named on the command line


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="predict.py", description="Label images with a checkpoint, or with the mean of several.")
    files = "checkpoints of finetune.py; several with the same classes are averaged"
    parser.add_argument("--ckpts", nargs="+", required=True, metavar="FILE", help=files)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, or folders of images at any depth")
    parser.add_argument("--top_k", type=number(int, 1), default=5, help="classes named for each image")
    parser.add_argument("--format", choices=("csv", "json"), help="of the table (json if --out ends so, else csv)")
    parser.add_argument("--out", metavar="FILE", help="where the table goes (the screen)")
    parser.add_argument("--sheet", metavar="FILE", help="draw the images with their labels as a PNG")
    parser.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    parser.add_argument("--batch_size_eval", type=number(int, 1), help="images labelled at a time (as in training)")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not say")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Label every image; return 0, or 3 when images of a folder could not be read."""
    options = parse(sys.argv[1:] if argv is None else argv)
    images = find(options.paths)
    device.select(options.gpu)
    models = load(options)
    batch_size = options.batch_size_eval or models[0].batch_size_eval or BATCH_SIZE_EVAL
    paths, probabilities = label(models, images, batch_size)
    table = error_analysis.top(probabilities, class_names(models[0]), options.top_k)
    write(options, paths, table)
    if options.sheet:
        draw(options.sheet, paths, table)
    print(f"{len(paths)} of {len(images)} images labelled", file=sys.stderr)
    return 0 if len(paths) == len(images) else errors.DataError.exit_code


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; images and folders that follow `--ckpts` directly are taken out of it."""
    options = parser().parse_args(argv)
    images = [word for word in options.ckpts if os.path.isdir(word) or word.lower().endswith(EXTENSIONS)]
    options.paths += images
    options.ckpts = [word for word in options.ckpts if word not in images]
    if not options.ckpts:
        raise errors.UsageError(f"--ckpts: no checkpoint among {errors.names(images)}")
    if not options.paths:
        raise errors.UsageError(f"no image or folder to label; taken for checkpoints: {errors.names(options.ckpts)}")
    for flag in ("out", "sheet"):
        if getattr(options, flag) and os.path.isdir(getattr(options, flag)):
            raise errors.UsageError(f"--{flag} {getattr(options, flag)} is a folder; accepted is the name of a file")
    options.format = options.format or ("json" if str(options.out).lower().endswith(".json") else "csv")
    return options


def find(paths: list[str]) -> Found:
    """Return every image once, those of a folder sorted by path.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    images: Found = {}
    for path in paths:
        if not os.path.isdir(path):
            if not os.path.exists(path):
                raise errors.DataError(f"{path}: no such file or folder")
            images[path] = True
            continue
        below = [str(file) for file in files_below(path) if file.name.lower().endswith(EXTENSIONS)]
        if not below:
            raise errors.DataError(f"{path}: no images in it; known are {' '.join(EXTENSIONS)}")
        for file in sorted(below):
            images.setdefault(file, False)
    return images


def load(options) -> list[Classifier]:
    """Return the networks.

    Raises:
        WeightsError: a file is absent, damaged or refused, or its classes are not those of the first.
    """
    models = [Classifier.load(path, options.model_arch, options.image_size) for path in options.ckpts]
    first = class_names(models[0])
    for path, model in zip(options.ckpts, models):
        others = class_names(model)
        if others != first:
            odd = sorted({*first} ^ {*others}) or ["the same in another order"]
            raise errors.WeightsError(f"{path}: not the classes of {options.ckpts[0]}: {errors.names(odd)}")
    return models


def class_names(model: Classifier) -> list[str]:
    """Return the names of the outputs: their numbers, from 0, where the checkpoint has no names."""
    return model.class_names or [str(label) for label in range(model.width)]


@paddle.no_grad()
def label(models: list[Classifier], images: Found, batch_size: int) -> tuple[list[str], np.ndarray]:
    """Return the images that could be read, and the mean of the networks' probabilities, float64 [N, K].

    An image of a folder that cannot be read is left out with one line of warning.

    Raises:
        DataError: an image named on the command line cannot be read, or none can.
    """
    paths, rows = [], []
    with tqdm(total=len(images), desc="labelling", unit="image", disable=None, leave=False) as bar:
        for batch, failures, decoded in ahead(_read(models, images, batch_size)):
            for failure in failures:
                tqdm.write(f"WARNING: {failure}", file=sys.stderr)
            if batch:
                logits = [model.network(normalise(decoded[model.preprocess])).logits.numpy() for model in models]
                rows.append(np.mean([softmax(each.astype("float64"), axis=1) for each in logits], axis=0))
                paths += batch
            bar.update(len(batch) + len(failures))
    if not paths:
        raise errors.DataError(f"none of the {len(images)} images can be read")
    return paths, np.concatenate(rows)


def _read(models, images: Found, batch_size: int) -> Iterator[tuple[list[str], list, dict]]:
    """Yield the paths of a batch, the failures in it, and its centre crops by how they were resized."""
    resizes = list(dict.fromkeys(model.preprocess for model in models))

    def attempt(path):
        try:
            return [decode(path, resize) for resize in resizes]
        except errors.DataError as failure:
            if images[path]:
                raise
            return failure

    order = list(images)
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(order), batch_size):
            paths = order[start : start + batch_size]
            results = dict(zip(paths, pool.map(attempt, paths)))
            failures = [result for result in results.values() if isinstance(result, errors.DataError)]
            read = {path: result for path, result in results.items() if isinstance(result, list)}
            columns = zip(resizes, zip(*read.values()))
            yield list(read), failures, {resize: crop(list(pixels), resize.image_size) for resize, pixels in columns}


def write(options, paths: list[str], table: list[error_analysis.Ranking]) -> None:
    """Write path, classes and probabilities of each image as CSV or JSON."""
    if options.format == "json":
        entries = [
            {"path": path, "top": [{"class": name, "probability": round(p, 6)} for name, p in ranking]}
            for path, ranking in zip(paths, table)
        ]
        text = json.dumps(entries, indent=2) + "\n"
    else:
        content = io.StringIO()
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(["path", *error_analysis.ranking_header(len(table[0]))])
        writer.writerows([path, *error_analysis.ranking_cells(ranking)] for path, ranking in zip(paths, table))
        text = content.getvalue()
    if options.out:
        write_text(options.out, text)
    else:
        sys.stdout.reconfigure(errors="surrogateescape")  # bytes of file names that are not UTF-8 stay as they are
        print(text, end="", flush=True)


def draw(path: str, paths: list[str], table: list[error_analysis.Ranking]) -> None:
    """Draw the contact sheet; of more than `SHEET` images so many, evenly spread."""
    shown = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), SHEET)).round().astype(int))
    title = f"{len(shown)} of {len(paths)} images" if len(shown) < len(paths) else f"{len(paths)} images"
    tiles = [pictures.Tile(paths[i], *table[i][0], "/".join(Path(paths[i]).parts[-2:])) for i in shown]
    pictures.contact_sheet(path, title, tiles)


if __name__ == "__main__":
    errors.run(main)

"""Score checkpoints on a folder of images, report their mistakes, compare two, measure how linear they are.

python test.py --ckpts output/cub_smile_Best.pdparams --test_dir dataset/cub/test --report mistakes
python test.py --compare output/cub_l2_Last.pdparams output/cub_smile_Last.pdparams --test_dir dataset/cub/test
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from utils import startup  # noqa: F401  it sets threads and memory up, so it comes before paddle

# isort: split
import numpy as np

from checkpoints.classifier import Classifier
from datasets.cache import StreamedImages
from datasets.folder import same_classes, scan
from datasets.loader import Dataset
from datasets.splits import decode_once, store_of
from evaluation import error_analysis, interpolation
from evaluation.interpolation import Interpolation
from evaluation.scores import predict, score
from models import ARCHITECTURES
from training import embedded
from utils import device, errors
from utils.commandline import Parser, number
from utils.files import write_text

BATCH_SIZE_EVAL, SEED = 8, 2022  # the reference's


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="test.py", description="Score checkpoints on a folder of images.")
    parser.add_argument("--ckpts", nargs="+", metavar="FILE", help="checkpoints of finetune.py")
    paired = "score these too, and test how B differs from A on the same images"
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help=paired)
    parser.add_argument("--test_dir", help="folder of class folders (./dataset/test)")
    parser.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    parser.add_argument("--batch_size_eval", type=number(int, 1), help="images scored at a time (as in training)")
    parser.add_argument("--cache", choices=("disk", "off"), default="disk", help="keep decoded images")
    parser.add_argument("--cache_dir", default="./cache", help="where decoded images go")
    parser.add_argument("--json", type=_new_file, metavar="FILE", help="write the results for a program too")
    report = "write tables and pictures of the mistakes here; of several checkpoints into a folder each"
    parser.add_argument("--report", type=_new_folder, metavar="DIR", help=report)
    between = parser.add_argument_group("interpolation losses")
    between.add_argument("--il", action="store_true", help="measure Label-IL and Feature-IL")
    between.add_argument(
        "--il_repeats", type=number(int, 1), default=5, metavar="N", help="random pairings of all images"
    )
    laws = "law of the mixing ratio: uniform, or beta(0.2, 0.2) as in training"
    between.add_argument("--il_ratio", choices=interpolation.RATIO_LAWS, default="uniform", help=laws)
    picture = "draw the losses against the mixing ratio, one line for each checkpoint"
    between.add_argument("--il_picture", type=_new_file, metavar="FILE", help=picture)
    board = "write the same curves for VisualDL here, in a folder for each checkpoint"
    between.add_argument("--log_dir", type=_new_folder, metavar="DIR", help=board)
    between.add_argument("--seed", type=number(int, 0), default=SEED, help="of pairs, mixing ratios and bootstrap")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not say")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def _new_file(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; accepted is the name of a file")
    return Path(text)


def _new_folder(text: str) -> Path:
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file; accepted is the name of a folder")
    return Path(text)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; what is compared joins `ckpts`, each once."""
    options = parser().parse_args(argv)
    options.ckpts = list(dict.fromkeys([*(options.ckpts or ()), *(options.compare or ())]))
    if not options.ckpts:
        raise errors.UsageError("no checkpoint: --ckpts FILE ... or --compare A B is needed")
    for name in ("il_picture", "log_dir"):
        if getattr(options, name) and not options.il:
            raise errors.UsageError(f"--{name} needs --il")
    return options


def main(argv: list[str] | None = None) -> None:
    """Score each checkpoint and print one line for each, then what else was asked for."""
    options = parse(sys.argv[1:] if argv is None else argv)
    if options.test_dir is None:
        options.test_dir = "./dataset/test" if Path("dataset").exists() else str(embedded.test_dir(options.cache_dir))
    found = scan(options.test_dir, "--test_dir")
    device.select(options.gpu)
    reports = error_analysis.folders(options.report, options.ckpts) if options.report else {}
    if len(reports) == 1:
        reports = dict.fromkeys(reports, options.report)
    stores, results, scored, curves = {}, {}, {}, {}
    for path in options.ckpts:
        model = Classifier.load(path, options.model_arch, options.image_size)
        if model.preprocess not in stores:
            stores[model.preprocess] = store_of(found, model.preprocess, options)
        images = image_set(stores[model.preprocess], model, path)
        decode_once(images, "decoding the test images")
        batch_size = options.batch_size_eval or model.batch_size_eval or BATCH_SIZE_EVAL
        began = time.perf_counter()
        logits = predict(model.network, images, batch_size)
        scores = score(logits, images.labels)
        print(f"{path}: {scores}  {time.perf_counter() - began:.1f} s", flush=True)
        results[path] = {"path": path, "test_dir": options.test_dir, **scores.to_dict()}
        scored[path] = images, logits.argmax(axis=1) == images.labels
        if reports:
            error_analysis.write(reports[path], images, logits)
        if options.il:
            between = Interpolation(model.network, images, batch_size, options.seed)
            results[path]["il"] = interpolation_losses(between, options)
            if options.il_picture or options.log_dir:
                curves[path] = between.curve()
    if len(results) > 1:
        low, middle, high = np.percentile([result["acc"] for result in results.values()], [0, 50, 100])
        print(f"top-1 of {len(results)} checkpoints: min {low:.2f} %, median {middle:.2f} %, max {high:.2f} %")
    if options.compare:
        results[options.compare[1]]["compared"] = compared(scored, *options.compare, options.seed)
    if options.il_picture:
        interpolation.draw(options.il_picture, curves)
    if options.log_dir:
        for path, folder in error_analysis.folders(options.log_dir, options.ckpts).items():
            interpolation.log(folder, curves[path])
    if options.json:
        write_text(options.json, json.dumps(list(results.values()), indent=2) + "\n")


def compared(scored: dict, a: str, b: str, seed: int) -> dict:
    """Print how the checkpoint `b` differs from `a`, and return it as `--json` has it.

    Raises:
        WeightsError: they have different classes, so that different images were scored.
    """
    (images_a, right_a), (images_b, right_b) = scored[a], scored[b]
    if not np.array_equal(images_a.positions, images_b.positions):
        odd = sorted({*images_a.class_names} ^ {*images_b.class_names})
        raise errors.WeightsError(f"--compare: {a} and {b} have different classes: {errors.names(odd)}")
    comparison = error_analysis.compare(right_a, right_b, seed)
    print(f"B ({b}) - A ({a}): {comparison}", flush=True)
    return {"with": a, **comparison.to_dict()}


def interpolation_losses(between: Interpolation, options) -> dict:
    """Print the interpolation losses and return them as `--json` has them, with how they were drawn."""
    losses = between.losses(options.il_ratio, options.il_repeats)
    count = options.il_repeats * len(between.images)
    print(interpolation.report(losses, count, options.il_ratio), flush=True)
    drawn = {"pairs": count, "repeats": options.il_repeats, "ratio": options.il_ratio, "seed": options.seed}
    return {**drawn, **{name: asdict(loss) for name, loss in losses.items()}}


def image_set(store: StreamedImages, model: Classifier, path: str) -> Dataset:
    """Return the images of the folder of `store`, labelled as the network's outputs are.

    Raises:
        DataError: the folder does not have the checkpoint's classes.
    """
    found = store.images
    if model.class_names is not None:
        same_classes(found, model.class_names, "--test_dir", path, or_more=model.sampled)
        others = len(found.class_names) - model.width
        if others:
            print(f"{path}: {others} classes of {found.root} are not among the checkpoint's {model.width}: left out")
    elif len(found.class_names) != model.width:
        raise errors.DataError(f"--test_dir {found.root}: {len(found.class_names)} classes, {path} has {model.width}")
    return Dataset.of(store, model.class_names or found.class_names)


if __name__ == "__main__":
    errors.run(main)

"""Label images with a checkpoint, with the mean of several, or with a pretrained network as it is.

python predict.py --ckpts output/pets_smile_Best.pdparams photos --sheet photos.png
python predict.py --pretrained imagenet --model_arch resnet50 photos
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

from checkpoints.classifier import WEIGHTS, Classifier
from checkpoints.published import NAMED
from datasets import heif
from datasets.folder import is_image
from evaluation import prediction
from evaluation.features import Features
from evaluation.predictions import Predictions
from models import ARCHITECTURES
from utils import device, errors
from utils.commandline import Parser, number
from utils.files import refuse_inputs, write_text
from utils.optional import need


def parser() -> Parser:
    """Return the command line of this script."""
    about = "Label images with a checkpoint, with the mean of several, or with a pretrained network as it is."
    parser = Parser(prog="predict.py", description=about)
    networks = parser.add_mutually_exclusive_group(required=True)
    files = "checkpoints of finetune.py; several with the same classes are averaged"
    networks.add_argument("--ckpts", nargs="+", metavar="FILE", help=files)
    source = "published weights with the head that they were trained with, of --model_arch"
    networks.add_argument("--pretrained", choices=tuple(NAMED), help=source)
    whose = "the network's weights, or its teacher's backbone under the network's head"
    parser.add_argument("--weights", choices=WEIGHTS, default=WEIGHTS[0], help=whose)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, or folders of images at any depth")
    parser.add_argument("--top_k", type=number(int, 1), default=5, help="classes named for each image")
    every = "one more column for each class, in their order: its probability"
    parser.add_argument("--all_classes", action="store_true", help=every)
    reject = "name no class where it is uncertain, so that of the others this share is right (after --calibrate)"
    parser.add_argument("--reject", type=number(float, 0, 1, above=True), metavar="SHARE", help=reject)
    keep = "write the features of the images, their paths and the names of the classes here, for numpy.load"
    parser.add_argument("--features", metavar="FILE", help=keep)
    near = "name this many of the images of --nearest_to that are nearest to each, by the cosine of their features"
    parser.add_argument("--nearest", type=number(int, 1), metavar="K", help=near)
    other = "what --features wrote of them, such as the training images, with the same network"
    parser.add_argument("--nearest_to", metavar="FILE", help=other)
    parser.add_argument("--format", choices=("csv", "json"), help="of the table (json if --out ends so, else csv)")
    parser.add_argument("--out", metavar="FILE", help="where the table goes (the screen)")
    parser.add_argument("--sheet", metavar="FILE", help="draw the images with their labels as a PNG")
    parser.add_argument("--sheet_top_k", type=number(int, 1), default=1, help="classes named for each image there")
    parser.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    parser.add_argument("--batch_size_eval", type=number(int, 1), help="images labelled at a time (as in training)")
    title = "for --pretrained, and for checkpoints of the reference, which do not record these"
    reference = parser.add_argument_group(title)
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    side = "224; with --pretrained the side that the network was published with"
    reference.add_argument("--image_size", type=number(int, 1), help=side)
    return parser


def main(argv: list[str] | None = None) -> Predictions:
    """Label every image; the exit code of the result is 3 when images of a folder could not be read."""
    options = parse(sys.argv[1:] if argv is None else argv)
    images = prediction.find(options.paths)
    outputs = {flag: getattr(options, flag) for flag in ("out", "sheet", "features") if getattr(options, flag)}
    known = [options.nearest_to] if options.nearest_to else []
    refuse_inputs(outputs, [*options.ckpts, *images, *known])
    device.select(options.gpu)
    models = load(options)
    origin = options.ckpts[0] if options.ckpts else f"--pretrained {options.pretrained}"
    threshold = prediction.chosen_threshold(models[0], options.reject, origin) if options.reject else None
    neighbourhood = Features.load_for(models[0], options.nearest_to, origin) if known else None
    with_features = bool(options.features or known)
    found = prediction.label(models, images, options.batch_size_eval, threshold, with_features=with_features)
    if neighbourhood:
        found = replace(found, nearest=neighbourhood.nearest(found.features, options.nearest))
    write(found, options)
    if options.features:
        Features.of(models[0], found).save(options.features)
    if threshold:
        print(threshold, file=sys.stderr)
    doubtful = f", {int(found.rejected.sum())} of them rejected" if threshold else ""
    print(f"{len(found)} of {len(images)} images labelled{doubtful}", file=sys.stderr)
    return found


def write(found: Predictions, options: argparse.Namespace) -> None:
    """Write the table, to the standard output without `--out`, and the sheet."""
    text = found.table(options.format, options.top_k, options.all_classes)
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="", flush=True)
    if options.sheet:
        prediction.draw(options.sheet, found.paths, found.top(options.sheet_top_k), found.rejected)


def load(options: argparse.Namespace) -> list[Classifier]:
    """Return the networks; where pretrained weights come from is said on the standard error, beside the table."""
    if not options.pretrained:
        return prediction.load(options.ckpts, options.model_arch, options.image_size, options.weights)
    with redirect_stdout(sys.stderr):
        return [Classifier.load_published(options.pretrained, options.model_arch, options.image_size)]


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; images and folders that follow `--ckpts` directly count as images."""
    options = parser().parse_args(argv)
    given = options.ckpts or []
    images = [word for word in given if os.path.isdir(word) or is_image(word) or heif.of_name(word)]
    options.paths += images
    options.ckpts = [word for word in given if word not in images]
    if given and not options.ckpts:
        raise errors.UsageError(f"--ckpts: no checkpoint among {errors.names(images)}")
    if not options.paths:
        taken = f"; taken for checkpoints: {errors.names(options.ckpts)}" if given else ""
        raise errors.UsageError(f"no image or folder to label{taken}")
    if options.pretrained and options.weights != WEIGHTS[0]:
        raise errors.UsageError(f"--weights {options.weights} needs --ckpts: published weights are of one network")
    if options.reject == 1:
        raise errors.UsageError("--reject 1: accepted is a share below 1, such as 0.95: no number of images proves 1")
    if options.reject and len(options.ckpts) > 1:
        raise errors.UsageError("--reject: a threshold is of one checkpoint; give a single one to --ckpts")
    if (options.nearest is None) != (options.nearest_to is None):
        given, missing = ("nearest", "nearest_to FILE") if options.nearest else ("nearest_to", "nearest K")
        raise errors.UsageError(f"--{given} needs --{missing}")
    if (options.features or options.nearest) and len(options.ckpts) > 1:
        flag = "--features" if options.features else "--nearest"
        raise errors.UsageError(f"{flag}: features are of one network; give a single one to --ckpts")
    if options.sheet:
        need("matplotlib", "--sheet")
    if options.sheet_top_k > 1 and not options.sheet:
        raise errors.UsageError(f"--sheet_top_k {options.sheet_top_k} needs --sheet")
    for flag in ("out", "sheet", "features"):
        if getattr(options, flag) and os.path.isdir(getattr(options, flag)):
            raise errors.UsageError(f"--{flag} {getattr(options, flag)} is a folder; accepted is the name of a file")
    options.format = options.format or ("json" if str(options.out).lower().endswith(".json") else "csv")
    return options


if __name__ == "__main__":
    errors.run(main)

"""Label images with a checkpoint, or with the mean of several.

python predict.py --ckpts output/pets_smile_Best.pdparams photos --sheet photos.png
"""

from __future__ import annotations

import argparse
import os
import sys

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

from datasets.folder import EXTENSIONS
from evaluation import error_analysis, prediction
from evaluation.prediction import Predictions
from evaluation.scoring import BATCH_SIZE_EVAL
from models import ARCHITECTURES
from utils import device, errors
from utils.commandline import Parser, number
from utils.files import refuse_inputs, write_text


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
    reference = parser.add_argument_group("for checkpoints of the reference, which do not record these")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def main(argv: list[str] | None = None) -> Predictions:
    """Label every image; the exit code of the result is 3 when images of a folder could not be read."""
    options = parse(sys.argv[1:] if argv is None else argv)
    images = prediction.find(options.paths)
    outputs = {flag: getattr(options, flag) for flag in ("out", "sheet") if getattr(options, flag)}
    refuse_inputs(outputs, [*options.ckpts, *images])
    device.select(options.gpu)
    models = prediction.load(options.ckpts, options.model_arch, options.image_size)
    batch_size = options.batch_size_eval or models[0].batch_size_eval or BATCH_SIZE_EVAL
    paths, probabilities = prediction.label(models, images, batch_size)
    rankings = error_analysis.top(probabilities, prediction.class_names(models[0]), options.top_k)
    text = prediction.table(paths, rankings, options.format)
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="", flush=True)
    if options.sheet:
        prediction.draw(options.sheet, paths, rankings)
    print(f"{len(paths)} of {len(images)} images labelled", file=sys.stderr)
    return Predictions(paths, probabilities, rankings, len(images) - len(paths))


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; images and folders that follow `--ckpts` directly count as images."""
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


if __name__ == "__main__":
    errors.run(main)

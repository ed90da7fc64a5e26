"""Score checkpoints on a folder of images.

python test.py --ckpts output/cub_smile_Best.pdparams --test_dir dataset/cub/test
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from utils import threads  # noqa: F401  it sets the number of threads, so it comes before paddle

# isort: split
from datasets.batches import ImageSet
from datasets.folder import same_classes, scan
from datasets.sets import decode_once, store_of
from models import ARCHITECTURES, trained
from utils import device, embedded, errors
from utils.commandline import Parser, number
from utils.evaluation import evaluate

BATCH_SIZE_EVAL = 8  # the reference's


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="test.py", description="Score checkpoints on a folder of images.")
    parser.add_argument("--ckpts", nargs="+", required=True, metavar="FILE", help="checkpoints of finetune.py")
    parser.add_argument("--test_dir", help="folder of class folders (./dataset/test)")
    parser.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    parser.add_argument("--batch_size_eval", type=number(int, 1), help="images scored at a time (as in training)")
    parser.add_argument("--cache", choices=("disk", "off"), default="disk", help="keep decoded images")
    parser.add_argument("--cache_dir", default="./cache", help="where decoded images go")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not say")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    reference.add_argument("--seed", type=number(int, 0), help="accepted, not used: nothing here is drawn")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Score each checkpoint and print one line for each."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    if options.test_dir is None:
        options.test_dir = "./dataset/test" if Path("dataset").exists() else str(embedded.test_dir(options.cache_dir))
    found = scan(options.test_dir, "--test_dir")
    device.select(options.gpu)
    for path in options.ckpts:
        model = trained.load(path, options.model_arch, options.image_size)
        images = image_set(found, model, path, options)
        decode_once(images, "decoding the test images")
        began = time.perf_counter()
        scores = evaluate(model.network, images, options.batch_size_eval or model.batch_size_eval or BATCH_SIZE_EVAL)
        print(
            f"{path}: top-1 {scores.acc1:.2f} % ({scores.correct}/{scores.count})  top-5 {scores.acc5:.2f} %  "
            f"loss {scores.loss:.4f}  {time.perf_counter() - began:.1f} s",
            flush=True,
        )


def image_set(found, model: trained.Trained, path: str, options) -> ImageSet:
    """Return the images of the folder `found`, labelled as the network's outputs are.

    Raises:
        DataError: the folder does not have the checkpoint's classes.
    """
    if model.classes is not None:
        same_classes(found, model.classes, "--test_dir", path)
    elif len(found.classes) != model.width:
        raise errors.DataError(f"--test_dir {found.root}: {len(found.classes)} classes, {path} has {model.width}")
    return ImageSet.of(store_of(found, model.preprocess, options), model.classes or found.classes)


if __name__ == "__main__":
    errors.run(main)

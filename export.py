"""Write a checkpoint as a model to deploy, for Paddle Inference and as ONNX, and check that both agree with it.

python export.py --ckpts output/pets_smile_Best.pdparams --out deploy --onnx
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import paddle

from checkpoints.classifier import WEIGHTS, Classifier
from evaluation.export import comparison_images, export
from models import ARCHITECTURES
from utils import errors, project
from utils.commandline import Parser, number


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="export.py", description="Write a checkpoint as a model to deploy and check that it agrees.")
    parser.add_argument("--ckpts", required=True, metavar="FILE", help="checkpoint of finetune.py")
    whose = "the network's weights, or its teacher's backbone under the network's head"
    parser.add_argument("--weights", choices=WEIGHTS, default=WEIGHTS[0], help=whose)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--onnx", action="store_true", help="write ONNX too (requirements-export.txt)")
    parser.add_argument("--images", metavar="DIR", help="folder of images to compare on (generated ones)")
    parser.add_argument("--count", type=number(int, 1), default=64, help="images to compare on")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not record these")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def main(argv: list[str] | None = None) -> list[Path]:
    """Export one checkpoint; return the files of the new folder."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    out = Path(options.out)
    if os.path.lexists(out):  # a link that leads nowhere too
        raise errors.UsageError(f"--out {out} exists; remove it or give another name")
    missing = [name for name in ("paddle2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if options.onnx and missing:
        needs = f"--onnx needs {', '.join(missing)}"
        packages = " ".join(missing) if project.PREFIX else "-r requirements-export.txt"  # which only a clone has
        raise errors.UsageError(f"{needs}: pip install {packages}, or leave --onnx out")
    paddle.device.set_device("cpu")
    model = Classifier.load(options.ckpts, options.model_arch, options.image_size, options.weights)
    images = comparison_images(model.preprocess, options.images, options.count)
    files = export(model, out, images, options.onnx)
    print(f"{out}: {', '.join(path.name for path in files)}")
    return files


if __name__ == "__main__":
    errors.run(main)

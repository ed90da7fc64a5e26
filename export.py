"""Write a checkpoint as a model to deploy, for Paddle Inference and as ONNX, and check that both agree with it.

python export.py --ckpts output/pets_smile_Best.pdparams --out deploy --onnx
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from utils import startup  # noqa: F401  it sets threads and memory up, so it comes before paddle

# isort: split
import numpy as np
import paddle
import paddle.nn.functional as F
import yaml
from paddle import nn
from PIL import Image

from checkpoints.classifier import Classifier
from datasets.folder import EXTENSIONS, files_below
from datasets.loader import crop, normalise
from datasets.preprocess import MEAN, STD, Preprocess, decode
from evaluation.deployed import INPUT, compare, quiet, runner, timed
from models import ARCHITECTURES
from utils import errors
from utils.commandline import Parser, number
from utils.files import write_text

NAME = "inference"  # the name PaddleX and PaddleClas expect
PADDLEX_NAME = "ResNet50"  # PaddleX reads a model by the name of one of its own, and every classifier alike
OPSET = 13


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="export.py", description="Write a checkpoint as a model to deploy and check that it agrees.")
    parser.add_argument("--ckpts", required=True, metavar="FILE", help="checkpoint of finetune.py")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--onnx", action="store_true", help="write ONNX too (requirements-export.txt)")
    parser.add_argument("--images", metavar="DIR", help="folder of images to compare on (generated ones)")
    parser.add_argument("--count", type=number(int, 1), default=64, help="images to compare on")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not say")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Export into a temporary folder, compare, and give the folder its name when everything agrees."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    out = Path(options.out)
    if out.exists():
        raise errors.UsageError(f"--out {out} exists; remove it or give another name")
    missing = [name for name in ("paddle2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if options.onnx and missing:
        needs = f"--onnx needs {', '.join(missing)}"
        raise errors.UsageError(f"{needs}: pip install -r requirements-export.txt, or leave --onnx out")
    paddle.device.set_device("cpu")
    model = Classifier.load(options.ckpts, options.model_arch, options.image_size)
    images = comparison_images(model.preprocess, options.images, options.count)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with quiet():
            files = export(model, temporary, options.onnx)
        check(model, images, files)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


class WithSoftmax(nn.Layer):
    """A network in eval mode that returns what an application wants: probabilities.

    Args:
        network: returns `Outputs`.
    """

    def __init__(self, network: nn.Layer):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images):
        """Map normalised images [B, 3, S, S] to probabilities [B, K]."""
        return F.softmax(self.network(images).logits, axis=-1)


def export(model: Classifier, folder: Path, onnx: bool) -> list[Path]:
    """Write the files into `folder`; return those that hold a network.

    Raises:
        WeightsError: paddle2onnx cannot convert the network.
    """
    side = model.preprocess.image_size
    spec = paddle.static.InputSpec([None, 3, side, side], "float32", INPUT)
    paddle.jit.save(WithSoftmax(model.network), str(folder / NAME), input_spec=[spec])
    write_text(folder / f"{NAME}.yml", yaml.safe_dump(description(model), sort_keys=False, allow_unicode=True))
    program = next(path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))  # Paddle 3, 2.6
    if not onnx:
        return [program]
    (folder / f"{NAME}.onnx").write_bytes(to_onnx(program))
    return [program, folder / f"{NAME}.onnx"]


def to_onnx(program: Path) -> bytes:
    """Return the ONNX form of an exported network.

    Raises:
        WeightsError: paddle2onnx cannot convert it.
    """
    import onnx
    import paddle2onnx

    try:  # without a file to write it returns the bytes, and does not install its optimizer first
        content = paddle2onnx.export(str(program), str(program.with_suffix(".pdiparams")), opset_version=OPSET)
    except Exception as failure:  # whatever it is, it comes from there
        raise errors.WeightsError(f"paddle2onnx cannot convert the network: {failure}") from failure
    network = onnx.load_from_string(content)
    used = {name for node in network.graph.node for name in node.input}
    for node in [node for node in network.graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        network.graph.node.remove(node)  # onnxruntime warns of each, whenever the file is read
    return network.SerializeToString()


def description(model: Classifier) -> dict:
    """Return what an application must know beside the weights, in the form of PaddleX and PaddleClas."""
    preprocess = model.preprocess
    classes = model.class_names or [str(label) for label in range(model.width)]
    resize = {"resize_short" if preprocess.keep_aspect else "size": preprocess.resize_size}
    normalisation = {"scale": 1 / 255, "mean": list(MEAN), "std": list(STD), "order": "", "channel_num": 3}
    return {
        "Global": {"model_name": PADDLEX_NAME},
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": {**resize, "interpolation": "bilinear", "backend": "pil"}},
                {"CropImage": {"size": preprocess.image_size}},
                {"NormalizeImage": normalisation},
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"Topk": {"topk": min(5, len(classes)), "label_list": classes}},
    }


def comparison_images(preprocess: Preprocess, folder: str | None, count: int) -> np.ndarray:
    """Return images as the network sees them, float32 [N, 3, S, S]: evenly spread over `folder`, or generated.

    Raises:
        DataError: there is no such folder, or it holds no image, or one that cannot be read.
    """
    if folder is None:
        pixels = [blurred(seed, preprocess.image_size) for seed in range(count)]
    else:
        if not os.path.isdir(folder):
            raise errors.DataError(f"--images {folder}: no such folder")
        found = sorted(path for path in files_below(folder) if path.name.lower().endswith(EXTENSIONS))
        if not found:
            raise errors.DataError(f"--images {folder}: no images in it; known are {' '.join(EXTENSIONS)}")
        places = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        pixels = [decode(found[place], preprocess) for place in places]
    return normalise(crop(pixels, preprocess.image_size)).numpy()


def blurred(seed: int, size: int) -> np.ndarray:
    """Return soft random blobs of colour, uint8 [size, size, 3]; the coarser, the smaller `seed` modulo 7."""
    grid = np.random.default_rng(seed).integers(0, 256, (2 + seed % 7, 2 + seed % 7, 3)).astype("uint8")
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.BICUBIC))


@paddle.no_grad()
def check(model: Classifier, images: np.ndarray, files: list[Path]) -> None:
    """Compare each of `files` with the network on `images` and print the speed of each.

    Raises:
        WeightsError: a top class changes, or a probability differs by more than `LIMIT` of the image's highest.
    """
    classifier = WithSoftmax(model.network)
    wanted, rate = timed(lambda batch: classifier(paddle.to_tensor(batch)).numpy(), images)
    print(f"{'checkpoint':17s} {rate:7.1f} images/s on the CPU", flush=True)
    for path in files:
        found, rate = timed(runner(path), images)
        difference = compare(wanted, found, path.name)
        print(f"{path.name:17s} {rate:7.1f} images/s on the CPU, differs by at most {difference:.1e}", flush=True)


if __name__ == "__main__":
    errors.run(main)

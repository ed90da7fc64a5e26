"""A checkpoint as a model to deploy: for Paddle Inference and as ONNX, compared with the network it was made from."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from PIL import Image

from checkpoints.classifier import Classifier
from datasets.loader import crop, normalise
from datasets.preprocess import Preprocess, decode
from evaluation.deployed import INPUT, compare, quiet, runner, timed
from evaluation.prediction import class_names, image_files
from utils.errors import DataError, WeightsError
from utils.files import write_text
from utils.system import rename

NAME = "inference"  # the name PaddleX and PaddleClas expect
PADDLEX_NAME = "ResNet50"  # PaddleX reads a model by the name of one of its own, and every classifier alike
OPSET = 13


class WithSoftmax(nn.Layer):
    """A network in eval mode that returns probabilities, as an application wants them.

    Args:
        network: returns `Outputs`.
        temperature: what its logits are divided by.
    """

    def __init__(self, network: nn.Layer, temperature: float = 1.0):
        super().__init__()
        self.network, self.temperature = network, temperature
        self.eval()

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Map normalised images [B, 3, S, S] to probabilities [B, K]."""
        logits = self.network(images).logits
        return F.softmax(logits if self.temperature == 1 else logits / self.temperature, axis=-1)


def export(model: Classifier, out: Path, images: np.ndarray, onnx: bool) -> list[Path]:
    """Export into a temporary folder, compare on `images`, and rename the folder to `out` when everything agrees.

    Args:
        model: the network, on the CPU.
        out: a folder that does not exist.
        images: normalised, float32 [N, 3, S, S].
        onnx: whether to write the network as ONNX too.

    Returns:
        The files of the folder, sorted by path.

    Raises:
        WeightsError: paddle2onnx cannot convert the network, or an exported one does not agree with it.
    """
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        with quiet():
            networks = write(model, temporary, onnx)
        check(model, images, networks)
        rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(out.iterdir())


def write(model: Classifier, folder: Path, onnx: bool) -> list[Path]:
    """Write the files into `folder`; return those that hold a network.

    Raises:
        WeightsError: paddle2onnx cannot convert the network.
    """
    import yaml  # only where a model is written

    side = model.preprocess.image_size
    spec = paddle.static.InputSpec([None, 3, side, side], "float32", INPUT)
    paddle.jit.save(WithSoftmax(model.network, model.temperature), str(folder / NAME), input_spec=[spec])
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
    except Exception as failure:  # of any kind: paddle2onnx raises what it likes
        raise WeightsError(f"paddle2onnx cannot convert the network: {failure}") from failure
    network = onnx.load_from_string(content)
    used = {name for node in network.graph.node for name in node.input}
    for node in [node for node in network.graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        network.graph.node.remove(node)  # onnxruntime warns of each, whenever the file is read
    return network.SerializeToString()


def description(model: Classifier) -> dict:
    """Return what an application needs besides the weights, in the form of PaddleX and PaddleClas."""
    preprocess = model.preprocess
    names = class_names(model)
    resize = {"resize_short" if preprocess.keep_aspect else "size": preprocess.resize_size}
    normalisation = {
        "scale": 1 / 255,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "order": "",
        "channel_num": 3,
    }
    turned = {"orientation": preprocess.orientation} if preprocess.orientation == "exif" else {}
    return {
        "Global": {"model_name": PADDLEX_NAME, **turned},
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": {**resize, "interpolation": preprocess.interpolation, "backend": "pil"}},
                {"CropImage": {"size": preprocess.image_size}},
                {"NormalizeImage": normalisation},
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"Topk": {"topk": min(5, len(names)), "label_list": names}},
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
            raise DataError(f"--images {folder}: no such folder")
        files = sorted(image_files(folder, f"--images {folder}"))
        places = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
        pixels = [decode(files[place], preprocess) for place in places]
    return normalise(crop(pixels, preprocess.image_size), preprocess).numpy()


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
    classifier = WithSoftmax(model.network, model.temperature)
    expected, rate = timed(lambda batch: classifier(paddle.to_tensor(batch)).numpy(), images)
    print(f"{'checkpoint':17s} {rate:7.1f} images/s on the CPU", flush=True)
    for path in files:
        actual, rate = timed(runner(path), images)
        difference = compare(expected, actual, path.name)
        print(f"{path.name:17s} {rate:7.1f} images/s on the CPU, differs by at most {difference:.1e}", flush=True)

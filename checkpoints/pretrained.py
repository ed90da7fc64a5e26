"""Where pretrained weights come from: the official files, a file of one's own, or nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paddle import nn

from checkpoints import conversion, formats
from checkpoints.checkpoint import load_exactly
from checkpoints.conversion import bare
from checkpoints.download import fetch
from checkpoints.entries import label, shown
from checkpoints.torchfile import unwrapped
from models import ARCHITECTURES, HEAD_NAMES, build, efficientnet
from models.parameters import freeze
from utils.errors import UsageError, WeightsError, names, warn
from utils.files import digest

HAPI = "https://paddle-hapi.bj.bcebos.com/models/"
# PaddlePaddle's own files: name under HAPI and md5
OFFICIAL = {
    "resnet18": ("resnet18.pdparams", "cf548f46534aa3560945be4b95cd11c4"),
    "resnet34": ("resnet34.pdparams", "8d2275cf8706028345f78ac0e1d31969"),
    "resnet50": ("resnet50.pdparams", "ca6f485ee1ab0492d38f323885b0ad80"),
    "resnet101": ("resnet101.pdparams", "02f35f034ca3858e1e54d4036443c92d"),
    "resnet152": ("resnet152.pdparams", "7ad16a2f1e7333859ff986138630fd7a"),
    "resnext50_32x4d": ("resnext50_32x4d.pdparams", "dc47483169be7d6f018fcbb7baf8775d"),
    "resnext50_64x4d": ("resnext50_64x4d.pdparams", "063d4b483e12b06388529450ad7576db"),
    "resnext101_32x4d": ("resnext101_32x4d.pdparams", "967b090039f9de2c8d06fe994fb9095f"),
    "resnext101_64x4d": ("resnext101_64x4d.pdparams", "98e04e7ca616a066699230d769d03008"),
    "resnext152_32x4d": ("resnext152_32x4d.pdparams", "18ff0beee21f2efc99c4b31786107121"),
    "resnext152_64x4d": ("resnext152_64x4d.pdparams", "77c4af00ca42c405fa7f841841959379"),
    "wide_resnet50_2": ("wide_resnet50_2.pdparams", "0282f804d73debdab289bd9fea3fa6dc"),
    "wide_resnet101_2": ("wide_resnet101_2.pdparams", "d4360a2d23657f059216f5d5a1a9ac93"),
    "mobilenet_v2": ("mobilenet_v2_x1.0.pdparams", "0340af0a901346c8d46f4529882fb63d"),
}
PLACES365 = (
    "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar",
    "46529c86902bd0cfb0ea562a30b2850c28d2620d96282b3db9c318e1d774f6c5",
)


@dataclass(frozen=True)
class Source:
    """A pretrained network.

    Attributes:
        network: frozen, in eval mode, with the head it was trained with.
        origin: the option's value: "imagenet", "places365" or a path.
        sha256: of the file.
        num_classes: outputs of its head.
    """

    network: nn.Layer
    origin: str
    sha256: str
    num_classes: int


def cache_dir() -> Path:
    """Return the folder that PaddlePaddle itself keeps its weights in.

    Raises:
        WeightsError: this user has no home folder, as with `docker run --user`.
    """
    folder = Path(".cache", "paddle", "hapi", "weights")
    try:
        return Path.home() / folder
    except RuntimeError:
        raise WeightsError(
            f"weights are looked for in {folder} of the home folder, and there is none: set HOME to a folder, "
            "or give a weight file with --pretrained"
        ) from None


def check_choice(pretrained: str, arch: str) -> None:
    """Refuse, before anything is loaded, a source that `arch` does not have.

    Raises:
        UsageError: naming what there is.
        WeightsError: the file does not exist.
    """
    if pretrained == "imagenet" and arch not in OFFICIAL:
        raise UsageError(
            f"--pretrained imagenet: PaddlePaddle has no file for --model_arch {arch}; there are files for "
            f"{', '.join(OFFICIAL)}; give a weight file or none"
        )
    if pretrained == "places365" and arch != "resnet50":
        raise UsageError(f"--pretrained places365: is a resnet50, --model_arch is {arch}")
    if pretrained not in ("imagenet", "places365", "none") and not os.path.isfile(pretrained):
        raise WeightsError(f"--pretrained {pretrained}: no such file; accepted are imagenet, places365, none or a file")


def locate(pretrained: str, arch: str) -> Path:
    """Return the weight file of `--pretrained`, fetched first when it is an official one that is not there yet.

    Raises:
        WeightsError: it cannot be fetched, or has a wrong sum; the message says which file to put where.
    """
    if pretrained == "imagenet":
        name, md5 = OFFICIAL[arch]
        return fetch(HAPI + name, cache_dir() / name, md5=md5)
    if pretrained == "places365":
        url, sha256 = PLACES365
        return fetch(url, cache_dir() / Path(url).name, sha256=sha256)
    return Path(pretrained)


def load_source(pretrained: str, arch: str) -> Source:
    """Return the pretrained network `arch`, its weights loaded exactly, with as many classes as the file has.

    Raises:
        WeightsError: the file is absent, damaged, refused, of another architecture, or does not fit by name and shape.
    """
    path = locate(pretrained, arch)
    state = read_state(path, arch)
    classes = head_width(state, arch, path)
    network = build(arch, classes)
    load_exactly(network, state, path)
    return Source(freeze(network), pretrained, digest(path), classes)


def head_width(state: dict[str, np.ndarray], arch: str, path: Path) -> int:
    """Return how many classes the head in `state` has, at most as many as it has weights for and at least one.

    Raises:
        WeightsError: there is no head in it.
    """
    weight = f"{HEAD_NAMES[arch]}.weight"
    if np.ndim(state.get(weight)) != 2:
        present = names(map(label, state), 3)
        raise WeightsError(f"{path} does not fit {arch}: it has no matrix {weight}; its entries are {present}")
    features, classes = state[weight].shape
    features = ARCHITECTURES[arch].features or features
    return max(1, min(classes, state[weight].size // features))  # for one that does not fit no larger head is built


def read_state(path: Path, arch: str) -> dict[str, np.ndarray]:
    """Read the weights in `path` under our names: a state dict, or the one in an entry such as `model` or `state_dict`.

    The reference's checkpoints hold an auxiliary head, `aux_fc`, which no fine-tuned network needs: it is left out.

    Raises:
        WeightsError: the file is damaged or refused, or says that it holds another architecture.
    """
    return state_of(formats.read(path), arch, path)


def state_of(content: dict, arch: str, path: Path) -> dict[str, np.ndarray]:
    """Return the weights in the `content` of the file `path` as `read_state` does."""
    if isinstance(content.get("model"), dict):
        written = content.get("arch", arch)
        if type(written) is not str or written != arch:
            raise WeightsError(f"{path}: its entry arch is {shown(written)}, --model_arch is {arch}")
    content = unwrapped(content)
    foreign = [name for name, value in content.items() if type(name) is not str or not isinstance(value, np.ndarray)]
    if foreign or not content:
        culprit = f"its entry {shown(foreign[0])}" if foreign else "it"
        raise WeightsError(f"{path}: not weights: {culprit} holds no array; accepted are arrays by name")
    content = {name: value for name, value in content.items() if not bare(name).startswith("aux_fc.")}
    if arch in efficientnet.ARCHITECTURES and conversion.TORCHVISION in map(bare, content):
        warn(f"{path}: torchvision's {arch} pads otherwise and has another epsilon")
    return conversion.to_ours(content, arch)

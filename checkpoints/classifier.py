"""A fine-tuned network and what it needs to be used: read from its checkpoint alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddle import nn

from checkpoints import checkpoint
from checkpoints.pretrained import head_width, state_of
from datasets.preprocess import Preprocess
from models import ARCHITECTURES, build
from models.parameters import freeze
from utils.errors import UsageError, WeightsError

REFERENCE_ARCH = "resnet50"  # what the reference's scripts assume when nothing else is said


@dataclass(frozen=True)
class Trained:
    """A checkpoint, ready to score.

    Attributes:
        network: in eval mode, without gradients.
        arch: its architecture.
        class_names: in the order of its outputs; None in the reference's checkpoints, which have none.
        width: the number of its outputs.
        preprocess: how its images were resized.
        sampled: whether these are chosen ones of the classes of its training folder.
        batch_size_eval: how many images were scored at a time while it was trained; None when unknown.
    """

    network: nn.Layer
    arch: str
    class_names: list[str] | None
    width: int
    preprocess: Preprocess
    sampled: bool
    batch_size_eval: int | None


def load(path: str | Path, arch: str | None = None, image_size: int | None = None) -> Trained:
    """Load a checkpoint of this project or of the reference.

    Args:
        path: the file.
        arch: its architecture, needed for the reference's checkpoints; must agree with ours.
        image_size: likewise.

    Raises:
        WeightsError: the file is absent, damaged, refused or does not fit the architecture.
        UsageError: `arch` or `image_size` contradict the file.
    """
    path = Path(path)
    content = checkpoint.read(path)
    with checkpoint.understood(path):
        return _load(content, path, arch, image_size)


def _load(content: dict, path: Path, arch: str | None, image_size: int | None) -> Trained:
    written = content.get("arch")
    if written is not None and written not in ARCHITECTURES:
        raise WeightsError(f"{path} holds a {written}; known are {', '.join(ARCHITECTURES)}")
    _agrees("--model_arch", arch, written, path)
    arch = written or arch or REFERENCE_ARCH
    if "preprocess" in content:
        preprocess = Preprocess(**content["preprocess"])
        if not 1 <= preprocess.image_size <= preprocess.resize_size:
            raise ValueError(f"images of {preprocess.image_size} out of {preprocess.resize_size} pixels")
        _agrees("--image_size", image_size, preprocess.image_size, path)
    else:
        size = image_size or 224
        preprocess = Preprocess(size, 256 if size <= 256 else round(size * 256 / 224))
    try:
        state = state_of(content, arch, path)
        network = build(arch, head_width(state, arch, path))
        checkpoint.load_exactly(network, state, path)
    except WeightsError as failure:
        hint = "" if written else f"; it does not say what it is: --model_arch is {arch}"
        raise WeightsError(f"{failure}{hint}") from None
    classes, width = content.get("classes"), network.head.weight.shape[1]
    if classes is not None and len({str(name) for name in classes}) != width:
        raise WeightsError(f"{path}: {len(classes)} class names for {width} outputs")
    options = content.get("options", {})
    return Trained(
        network=freeze(network),
        arch=arch,
        class_names=classes,
        width=width,
        preprocess=preprocess,
        sampled=options.get("sample_classes") is not None,
        batch_size_eval=options.get("batch_size_eval"),
    )


def _agrees(flag: str, given, written, path: Path) -> None:
    if given is not None and written is not None and given != written:
        raise UsageError(f"{flag} {given} contradicts {path}, which was written with {written}")

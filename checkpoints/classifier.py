"""A network and what it needs to be used: a fine-tuned one from its checkpoint alone, or a published one as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import regularizers
from checkpoints import checkpoint, published
from checkpoints.pretrained import (
    check_choice,
    crop_share,
    head_width,
    read_weights,
    state_of,
    trained_with,
    variant_of,
)
from datasets.preprocess import Preprocess
from models import ARCHITECTURES, Network, build
from models.parameters import backbone_parameters, freeze
from utils.errors import UsageError, WeightsError, names

WEIGHTS = ("student", "teacher")
REFERENCE_ARCH = "resnet50"  # the default of the reference's scripts, whose checkpoints do not name theirs


@dataclass(frozen=True)
class Classifier:
    """A checkpoint, or a published network with its own head, ready to score.

    Attributes:
        network: in eval mode, without gradients.
        arch: its architecture.
        class_names: in the order of its outputs; None where there are none, as in the reference's checkpoints.
        width: the number of its outputs.
        preprocess: how its images were resized and normalised.
        sampled: whether its classes are a sample of those of its training folder.
        batch_size_eval: how many images were scored at a time while it was trained; None when unknown.
        calibration: what was found on held-out images, as `evaluation.calibration.calibrate` returns it; None without.
    """

    network: Network
    arch: str
    class_names: list[str] | None
    width: int
    preprocess: Preprocess
    sampled: bool
    batch_size_eval: int | None
    calibration: dict[str, Any] | None = None

    @property
    def temperature(self) -> float:
        """What its logits are divided by before the softmax; 1 without a calibration."""
        return self.calibration["temperature"] if self.calibration else 1.0

    @classmethod
    def load(
        cls, path: str | Path, arch: str | None = None, image_size: int | None = None, weights: str = WEIGHTS[0]
    ) -> Classifier:
        """Load a checkpoint of this project or of the reference.

        The weights of the teacher are its backbone, the average of the network's, under the network's head of the
        same moment: the teacher's own head is the source's. `_Last` and `_Best` hold both.

        Args:
            path: the file.
            arch: its architecture, needed for the reference's checkpoints; must agree with ours.
            image_size: side of its images in pixels; likewise.
            weights: one of `WEIGHTS`.

        Raises:
            WeightsError: the file is absent, damaged, refused or does not fit the architecture.
            UsageError: `arch` or `image_size` contradict the file, or it has no teacher.
        """
        path = Path(path)
        content = checkpoint.read(path)
        checkpoint.validate(content, path)
        written = content.get("arch")
        _must_agree("--model_arch", arch, written, path)
        arch = written or arch or REFERENCE_ARCH
        preprocess = _preprocess(content, image_size, path)
        try:
            state = state_of({**content, "arch": arch}, arch, path)
            network = build(arch, head_width(state, arch, path), variant_of(content, arch, path))
            checkpoint.load_exactly(network, state, path)
            if weights == "teacher":
                checkpoint.load_exactly(network, {**state, **_averaged(content, network, path)}, f"{path}: the teacher")
        except WeightsError as failure:
            hint = "" if written else f"; the file does not name its architecture: --model_arch is {arch}"
            raise WeightsError(f"{failure}{hint}") from None
        class_names, width = content.get("classes"), network.head.weight.shape[1]
        _must_fit(class_names, width, path)
        options = content.get("options") or {}
        return cls(
            network=freeze(network),
            arch=arch,
            class_names=class_names,
            width=width,
            preprocess=preprocess,
            sampled=options.get("sample_classes") is not None,
            batch_size_eval=options.get("batch_size_eval"),
            calibration=content.get("calibration") if weights == WEIGHTS[0] else None,  # it is the student's
        )

    @classmethod
    def load_published(cls, pretrained: str, arch: str | None = None, image_size: int | None = None) -> Classifier:
        """Load published weights with the head that they were trained with.

        Args:
            pretrained: their name, a key of `checkpoints.published.NAMED`.
            arch: the architecture; by default the reference's.
            image_size: side of the images in pixels; by default the one that the network was published with.

        Raises:
            UsageError: the architecture has no weights of this name, or cannot process images so small.
            WeightsError: the weights are not installed, cannot be fetched, or are damaged.
        """
        arch = arch or REFERENCE_ARCH
        check_choice(pretrained, arch)
        smallest = ARCHITECTURES[arch].smallest
        size = image_size or ARCHITECTURES[arch].image_size
        if size < smallest:
            raise UsageError(f"--image_size {size}: accepted with {arch} is {smallest} or more")
        source = read_weights(pretrained, arch).network()
        class_names = published.class_names(pretrained)
        _must_fit(class_names, source.num_classes, f"--pretrained {pretrained}")
        resize_size = round(size / crop_share(pretrained, arch))
        return cls(
            network=source.network,
            arch=arch,
            class_names=class_names,
            width=source.num_classes,
            preprocess=Preprocess(size, resize_size, **asdict(trained_with(pretrained, arch))),
            sampled=False,
            batch_size_eval=None,
        )


def _averaged(content: dict, network: Network, path: Path) -> dict[str, np.ndarray]:
    """Return the backbone that the method of a checkpoint keeps as the average of the network's, by name."""
    name, state = "none", {}
    if content.get("regularizer") is not None:
        checkpoint.validate_method(content, path)
        name, state = content["regularizer"]["name"], content["regularizer"]["state"]
    try:
        place = regularizers.create(name).averaged if state else ""
    except UsageError as failure:
        raise WeightsError(f"{path}: {failure}") from None
    if not place:
        raise UsageError(f"--weights teacher: {path} has no teacher, its method is {name}; accepted is student")
    found = {name: state.get(f"{place}.{name}") for name in backbone_parameters(network)}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise WeightsError(f"{path}: the teacher does not fit the network: missing: {names(missing, 4)}")
    return found


def _preprocess(content: dict, image_size: int | None, path: Path) -> Preprocess:
    if content.get("preprocess") is not None:
        preprocess = Preprocess(**content["preprocess"])
        _must_agree("--image_size", image_size, preprocess.image_size, path)
        return preprocess
    size = image_size or 224
    return Preprocess(size, 256 if size <= 256 else round(size * 256 / 224))


def _must_fit(class_names: list[str] | None, width: int, origin: str | Path) -> None:
    if class_names is not None and len(class_names) != width:
        raise WeightsError(f"{origin}: {len(class_names)} class names for {width} outputs")


def _must_agree(flag: str, given: str | int | None, written: str | int | None, path: Path) -> None:
    if given is not None and written is not None and given != written:
        raise UsageError(f"{flag} {given} contradicts {path}, which was written with {written}")

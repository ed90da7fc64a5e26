"""Where pretrained weights come from: the official files, a file of one's own, or nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from paddle import nn

from checkpoints import conversion, entries, formats, published
from checkpoints.checkpoint import load_exactly
from checkpoints.conversion import bare
from checkpoints.download import fetch
from checkpoints.entries import label, shown
from checkpoints.published import HAPI, OFFICIAL
from checkpoints.torchfile import unwrapped
from models import ARCHITECTURES, HEAD_NAMES, PretrainedWith, build
from models.network import CROP_SHARE, IMAGENET
from models.parameters import freeze
from utils.errors import UsageError, WeightsError, names
from utils.files import digest

_PREPROCESS = ("mean", "std", "interpolation")


@dataclass(frozen=True)
class Source:
    """A pretrained network.

    Attributes:
        network: frozen, in eval mode, with the head it was trained with.
        origin: the option's value: "imagenet", "imagenet_v2", "places365" or a path.
        sha256: of the file.
        num_classes: outputs of its head.
        variant: the edition of the architecture that it is, a key of its `variants`; "" for the architecture's own.
    """

    network: nn.Layer
    origin: str
    sha256: str
    num_classes: int
    variant: str = ""


@dataclass(frozen=True)
class Weights:
    """A file of weights, read: arrays under our names. The attributes are those of `Source`."""

    state: dict[str, np.ndarray]
    path: Path
    arch: str
    origin: str
    num_classes: int
    variant: str

    def network(self) -> Source:
        """Build the network and load it exactly.

        Raises:
            WeightsError: the weights do not fit by name and shape.
        """
        network = build(self.arch, self.num_classes, self.variant)
        load_exactly(network, self.state, self.path)
        return Source(freeze(network), self.origin, digest(self.path), self.num_classes, self.variant)


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
        WeightsError: the file does not exist, or the package that has it is not installed.
    """
    if pretrained in published.NAMED:
        there = published.architectures(pretrained)
        if arch not in there:
            raise UsageError(
                f"--pretrained {pretrained}: no file for --model_arch {arch}; there are files for {', '.join(there)}; "
                "give a weight file or none"
            )
        if pretrained == "imagenet" and arch in published.PACKAGES:
            published.packaged(arch)
    elif pretrained != "none" and not os.path.isfile(pretrained):
        accepted = f"accepted are {', '.join(published.NAMED)}, none or a file"
        raise WeightsError(f"--pretrained {pretrained}: no such file; {accepted}")


def locate(pretrained: str, arch: str) -> Path:
    """Return the weight file of `--pretrained`, fetched first when it is a published one that is not there yet.

    Raises:
        WeightsError: it cannot be fetched, or has a wrong sum; the message says which file to put where.
    """
    if pretrained == "imagenet" and arch in OFFICIAL:
        name, md5 = OFFICIAL[arch]
        return fetch(HAPI + name, cache_dir() / name, md5=md5)
    if pretrained == "imagenet" and arch in published.PACKAGES:
        path = published.packaged(arch)
        print(f"--pretrained imagenet: {path}, of the package {published.PACKAGES[arch]}", flush=True)
        return path
    if pretrained in published.NAMED:
        file = published.NAMED[pretrained][arch]
        return fetch(file.url, cache_dir() / file.local_name, sha256=file.sha256)
    return Path(pretrained)


def crop_share(pretrained: str, arch: str) -> float:
    """Return the side of the crop over that of the resized image for `--pretrained`; of a file, the architecture's."""
    if pretrained == "none":
        return CROP_SHARE
    file = published.NAMED.get(pretrained, {}).get(arch)
    return file.crop_share if file and file.crop_share else ARCHITECTURES[arch].crop_share


def trained_with(pretrained: str, arch: str) -> PretrainedWith:
    """Return how the images were prepared that the weights of `--pretrained` were trained with.

    A checkpoint records it, and one that does not has ImageNet's; of other files the names of the weights tell.

    Raises:
        WeightsError: the file is damaged or refused, or it is left open which edition it is.
    """
    if pretrained == "none":
        return IMAGENET
    own = ARCHITECTURES[arch].trained_with()
    if pretrained in published.NAMED or not os.path.isfile(pretrained):  # an absent file is reported where it is needed
        return own
    content, path = formats.read(pretrained), Path(pretrained)
    # of a run: some publishers put weights into an entry `model` too, but neither of the others
    checkpoint = isinstance(content.get("model"), dict) and not {"arch", "iter"}.isdisjoint(content)
    written = content.get("preprocess") if isinstance(content.get("model"), dict) else None
    if written is None and not checkpoint:
        return ARCHITECTURES[arch].trained_with(variant_of(content, arch, path))
    entries.validate({"preprocess": written}, path)
    return replace(IMAGENET, **{name: written[name] for name in _PREPROCESS if name in (written or {})})


def read_weights(pretrained: str, arch: str) -> Weights:
    """Read the weights of `--pretrained` without building a network.

    Raises:
        WeightsError: the file is absent, damaged, refused, of another architecture, or has no head.
    """
    path = locate(pretrained, arch)
    content = formats.read(path)
    state = state_of(content, arch, path)
    return Weights(state, path, arch, pretrained, head_width(state, arch, path), variant_of(content, arch, path))


def variant_of(content: dict, arch: str, path: Path) -> str:
    """Return the edition of `arch` in the `content` of the file `path`: a checkpoint records it, or the names tell.

    Raises:
        WeightsError: it is none of the architecture's, or left open.
    """
    if not isinstance(content.get("model"), dict):
        return conversion.variant(unwrapped(content), arch, path)
    source = content.get("source")
    written = source.get("variant") if isinstance(source, dict) else None
    if written is None:
        return conversion.variant(content["model"], arch, path)
    if type(written) is not str or written not in ARCHITECTURES[arch].variants:
        accepted = ", ".join(ARCHITECTURES[arch].variants) or "none"
        raise WeightsError(f"{path}: its entry source.variant is {shown(written)}; accepted with {arch}: {accepted}")
    return written


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
    features = ARCHITECTURES[arch].features or features or 1
    return max(1, min(classes, state[weight].size // features))  # for one that does not fit no larger head is built


def state_of(content: dict, arch: str, path: Path) -> dict[str, np.ndarray]:
    """Return the weights in the `content` of the file `path` under our names.

    The content is a state dict, or has it in an entry such as `model` or `state_dict`. The reference's checkpoints hold
    an auxiliary head, `aux_fc`, which no fine-tuned network needs: it is left out.

    Raises:
        WeightsError: it is not weights, or says that it holds another architecture.
    """
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
    return conversion.to_ours(content, arch)

"""Other projects' names of the same weights, turned into ours.

Known are, besides our own names:

    ResNet, ResNeXt, Wide ResNet    torchvision's and timm's (they are ours)
    ResNet                          PaddleClas's; its 18 and 34 have one shortcut convolution more and do not fit
    ResNet-vd                       PaddleClas's, timm's (ours)
    MobileNetV2                     torchvision's (ours)
    MobileNetV3                     paddle.vision's (ours), torchvision's
    EfficientNet and Lite           lukemelas's (ours), timm's, torchvision's, PaddleClas's
    ConvNeXt                        timm's (ours but for the head), torchvision's, its authors'
    vision transformer              timm's (ours but for the head), which are PaddleClas's and DeiT's

No two of them mean different things by one name. So each name is looked up by itself, and one that nobody knows stays
as it is: the loader then reports it as the file has it. What a wrapper around the network put before its names
(`module.` of parallel training, `_orig_mod.` of torch.compile, `model.`, `backbone.` and so on) is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from checkpoints import module_names
from models import ARCHITECTURES
from utils.errors import WeightsError

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.")  # of no name of ours
_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}
_LEAVES = {**_STATISTICS, "layer_scale": "gamma"}
_MLP = ".mlp.fc1.weight"  # ours of a matrix that is four times as wide as high

# of the names of an EfficientNet only torchvision's, only timm's
_TORCHVISION, _TIMM = "features.0.0.weight", "conv_stem.weight"


def variant(names: Iterable[str], arch: str, path: str | Path) -> str:
    """Return the edition of `arch` that the weights with these `names` belong to, a key of its `variants`.

    Raises:
        WeightsError: the names and the path leave it open.
    """
    if not ARCHITECTURES[arch].variants:
        return ""
    present = {bare(name) for name in names if isinstance(name, str)}
    if _TORCHVISION in present:
        return "symmetric"
    if _TIMM not in present:
        return ""
    editions = re.findall(r"(tf_|)efficientnet_", str(path))
    if not editions:
        raise WeightsError(
            f"{path}: timm's tf_{arch} and {arch} have the same names but differ in padding and epsilon: accepted is a "
            f"file or folder whose name has tf_{arch} or {arch} in it"
        )
    return "" if editions[-1] else "symmetric"


def to_ours(state: dict[str, np.ndarray], arch: str) -> dict[str, np.ndarray]:
    """Return `state` under the names of our `arch` and in paddle's layout.

    The matrices of linear layers are all transposed to [in, out], or none: see `has_torch_layout`. Nothing is checked
    against the network; `load_exactly` does that.

    Raises:
        WeightsError: two names of the file mean the same weight.
    """
    names = renaming(state, arch)
    transposed = has_torch_layout({ours: state[name] for name, ours in names.items()}, state)
    converted = {}
    for name, ours in names.items():
        array = state[name]
        if array.ndim == 2 and transposed:
            array = np.ascontiguousarray(array.T)
        elif ours.endswith(".gamma"):  # torchvision's has the form [C, 1, 1]
            array = array.reshape(-1)
        converted[ours] = array
    return converted


def has_torch_layout(ours: dict[str, np.ndarray], names: Iterable[str]) -> bool:
    """Return whether linear matrices are [out, in] in a file.

    The names of running statistics are torch's or paddle's. A network without them has an MLP, whose first matrix is
    four times as wide as it is high in paddle's layout and four times as high in torch's.

    Args:
        ours: the arrays under our names.
        names: those of the file.
    """
    leaves = {name.rpartition(".")[2] for name in names}
    if not leaves.isdisjoint(_STATISTICS):
        return True
    if not leaves.isdisjoint(_STATISTICS.values()):
        return False
    return any(name.endswith(_MLP) and a.ndim == 2 and a.shape[0] > a.shape[1] for name, a in ours.items())


def bare(name: str) -> str:
    """Return `name` without what wrappers around the network put before it."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def renaming(names: Iterable[str], arch: str) -> dict[str, str]:
    """Return {a file's name: our name} for all of `names` but torch's counters `num_batches_tracked`.

    Raises:
        WeightsError: two names mean the same weight.
    """
    names = list(names)
    modules = module_names.ours(arch, list(map(bare, names)))
    renamed, origin = {}, {}
    for name in names:
        module, dot, leaf = bare(name).rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        ours = modules.get(module, module) + dot + _LEAVES.get(leaf, leaf)
        if ours in origin:
            raise WeightsError(f"{origin[ours]} and {name} are both {ours} of {arch}: accepted is one of them")
        origin[ours] = name
        renamed[name] = ours
    return renamed

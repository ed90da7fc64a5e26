"""Other projects' names of the same weights, turned into ours.

Known are, besides our own names:

    ResNet, ResNeXt, Wide ResNet    torchvision's and timm's (they are ours)
    ResNet                          PaddleClas's; its 18 and 34 have one shortcut convolution more and do not fit
    MobileNetV2                     torchvision's (ours)
    EfficientNet                    lukemelas's (ours), timm's, torchvision's, PaddleClas's

No two of them mean different things by one name. So each name is looked up by itself, and one that nobody knows stays
as it is: the loader then reports it as the file has it. What a wrapper around the network put before its names
(`module.` of parallel training, `_orig_mod.` of torch.compile, `model.`, `backbone.` and so on) is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from models import efficientnet
from utils.errors import WeightsError

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.")  # of no name of ours
_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}

# blocks in each stage; the flat index of PaddleClas needs it
_RESNET_REPEATS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}

_RESNET_BLOCK = {
    "conv0.conv": "conv1",
    "conv0.bn": "bn1",
    "conv1.conv": "conv2",
    "conv1.bn": "bn2",
    "conv2.conv": "conv3",
    "conv2.bn": "bn3",
    "short.conv": "downsample.0",
    "short.bn": "downsample.1",
}

TORCHVISION = "features.0.0.weight"  # of the names of an EfficientNet only torchvision's

# ours, timm's, torchvision's, PaddleClas's
_EFFICIENTNET_ENDS = (
    ("_conv_stem", "conv_stem", "features.0.0", "_ef._conv_stem._conv._conv._conv"),
    ("_bn0", "bn1", "features.0.1", "_ef._conv_stem._conv._bn"),
    ("_conv_head", "conv_head", "features.8.0", "_conv._conv._conv"),
    ("_bn1", "bn2", "features.8.1", "_conv._bn"),
    ("_fc", "classifier", "classifier.1", "_fc"),
)
_EXPANDING_BLOCK = (
    ("_expand_conv", "conv_pw", "block.0.0", "_ecn._conv._conv._conv"),
    ("_bn0", "bn1", "block.0.1", "_ecn._conv._bn"),
    ("_depthwise_conv", "conv_dw", "block.1.0", "_dcn._conv._conv._conv"),
    ("_bn1", "bn2", "block.1.1", "_dcn._conv._bn"),
    ("_se_reduce", "se.conv_reduce", "block.2.fc1", "_se._conv1._conv"),
    ("_se_expand", "se.conv_expand", "block.2.fc2", "_se._conv2._conv"),
    ("_project_conv", "conv_pwl", "block.3.0", "_pcn._conv._conv._conv"),
    ("_bn2", "bn3", "block.3.1", "_pcn._conv._bn"),
)
_FIRST_STAGE_BLOCK = (
    ("_depthwise_conv", "conv_dw", "block.0.0", "_dcn._conv._conv._conv"),
    ("_bn1", "bn1", "block.0.1", "_dcn._conv._bn"),
    ("_se_reduce", "se.conv_reduce", "block.1.fc1", "_se._conv1._conv"),
    ("_se_expand", "se.conv_expand", "block.1.fc2", "_se._conv2._conv"),
    ("_project_conv", "conv_pw", "block.2.0", "_pcn._conv._conv._conv"),
    ("_bn2", "bn2", "block.2.1", "_pcn._conv._bn"),
)


def to_ours(state: dict[str, np.ndarray], arch: str) -> dict[str, np.ndarray]:
    """Return `state` under the names of our `arch` and in paddle's layout.

    The matrix of a linear layer is transposed to [in, out] when the file names a `running_mean`: those are torch's.
    All other arrays are returned as they are. Nothing is checked against the network; `load_exactly` does that.

    Raises:
        WeightsError: two names of the file mean the same weight.
    """
    from_torch = any(name.endswith(".running_mean") for name in state)
    return {
        ours: np.ascontiguousarray(state[name].T) if from_torch and state[name].ndim == 2 else state[name]
        for name, ours in renaming(state, arch).items()
    }


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
    modules = _modules(arch)
    renamed, origin = {}, {}
    for name in names:
        module, dot, leaf = bare(name).rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        ours = modules.get(module, module) + dot + _STATISTICS.get(leaf, leaf)
        if ours in origin:
            raise WeightsError(f"{origin[ours]} and {name} are both {ours} of {arch}: accepted is one of them")
        origin[ours] = name
        renamed[name] = ours
    return renamed


def _modules(arch: str) -> dict[str, str]:
    if arch in _RESNET_REPEATS:
        return _resnet(_RESNET_REPEATS[arch])
    if arch in efficientnet.ARCHITECTURES:
        return _efficientnet(efficientnet.repeats(arch))
    return {}


def _resnet(repeats: Sequence[int]) -> dict[str, str]:
    modules = {"stem.0.conv": "conv1", "stem.0.bn": "bn1"}
    blocks = [(stage, i) for stage, count in enumerate(repeats, start=1) for i in range(count)]
    for flat, (stage, i) in enumerate(blocks):
        for foreign, ours in _RESNET_BLOCK.items():
            modules[f"blocks.{flat}.{foreign}"] = f"layer{stage}.{i}.{ours}"
    return modules


def _efficientnet(repeats: Sequence[int]) -> dict[str, str]:
    modules = {foreign: ours for ours, *others in _EFFICIENTNET_ENDS for foreign in others}
    blocks = [(stage, i) for stage, count in enumerate(repeats) for i in range(count)]
    for flat, (stage, i) in enumerate(blocks):
        list_name = "block" if i else "_blocks"
        for ours, timm, torchvision, paddleclas in _EXPANDING_BLOCK if stage else _FIRST_STAGE_BLOCK:
            modules[f"blocks.{stage}.{i}.{timm}"] = f"_blocks.{flat}.{ours}"
            modules[f"features.{stage + 1}.{i}.{torchvision}"] = f"_blocks.{flat}.{ours}"
            modules[f"_ef.{list_name}.{flat}..{paddleclas}"] = f"_blocks.{flat}.{ours}"
    return modules

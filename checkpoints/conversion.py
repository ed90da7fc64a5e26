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
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from models import ARCHITECTURES, convnext, efficientnet, efficientnet_lite, mobilenet_v3, resnet_vd, vit
from utils.errors import WeightsError

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.")  # of no name of ours
_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}
_LEAVES = {**_STATISTICS, "layer_scale": "gamma"}
_MLP = ".mlp.fc1.weight"  # ours of a matrix that is four times as wide as high

# blocks in each stage; the flat index of PaddleClas needs it
_RESNET_REPEATS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
_RESNET_STEM = {"stem.0.conv": "conv1", "stem.0.bn": "bn1"}
_VD_STEM = {
    **{f"stem.{i}.conv": f"conv1.{3 * i}" for i in range(3)},
    **{f"stem.{i}.bn": f"conv1.{3 * i + 1}" for i in range(2)},
    "stem.2.bn": "bn1",
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

_VD_BLOCK = {**_RESNET_BLOCK, "short.conv": "downsample.1", "short.bn": "downsample.2"}  # 0 is the pool

# of the names of an EfficientNet only torchvision's, only timm's
_TORCHVISION, _TIMM = "features.0.0.weight", "conv_stem.weight"

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
    modules = _modules(arch, names)
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


def _modules(arch: str, names: list[str]) -> dict[str, str]:
    arguments = ARCHITECTURES[arch].arguments
    if arch in _RESNET_REPEATS:
        return _resnet(_RESNET_REPEATS[arch], _RESNET_STEM, _RESNET_BLOCK)
    if arch in resnet_vd.ARCHITECTURES:
        return _resnet(arguments["repeats"], _VD_STEM, _VD_BLOCK)
    if arch in efficientnet.ARCHITECTURES or arch in efficientnet_lite.ARCHITECTURES:
        style = arguments.get("style", efficientnet.RELEASE)
        return _efficientnet(efficientnet.stage_repeats(arguments["depth"], style))
    if arch in mobilenet_v3.ARCHITECTURES:
        return _mobilenet_v3(names)
    if arch in convnext.ARCHITECTURES:
        return _convnext(arguments["repeats"])
    return {"head": "fc"} if arch in vit.ARCHITECTURES else {}


def _resnet(repeats: Sequence[int], stem: dict[str, str], block: dict[str, str]) -> dict[str, str]:
    modules = dict(stem)
    blocks = [(stage, i) for stage, count in enumerate(repeats, start=1) for i in range(count)]
    for flat, (stage, i) in enumerate(blocks):
        for foreign, ours in block.items():
            modules[f"blocks.{flat}.{foreign}"] = f"layer{stage}.{i}.{ours}"
    return modules


def _mobilenet_v3(names: list[str]) -> dict[str, str]:
    """Map torchvision's modules, whose numbers depend on which parts a block has: the names tell."""
    features = [re.match(r"(?:module\.)?features\.(\d+)\.(?:block\.(\d+)\.(fc1)?)?", name) for name in names]
    parts: dict[int, dict[int, bool]] = {}  # of each layer of `features`: the number of a part, and whether it gates
    for match in filter(None, features):
        layer = parts.setdefault(int(match[1]), {})
        if match[2]:
            layer[int(match[2])] = layer.get(int(match[2]), False) or bool(match[3])
    modules = {}
    for i, layer in parts.items():
        if not layer:
            modules.update({f"features.{i}.{j}": f"{'lastconv' if i else 'conv'}.{j}" for j in (0, 1)})
        convolutions = [number for number, gates in sorted(layer.items()) if not gates]
        ours = ("expand_conv", "bottleneck_conv", "linear_conv")[-len(convolutions) :]
        for number, part in zip(convolutions, ours):
            modules.update({f"features.{i}.block.{number}.{j}": f"blocks.{i - 1}.{part}.{j}" for j in (0, 1)})
        for number in set(layer) - set(convolutions):
            modules.update(
                {f"features.{i}.block.{number}.{fc}": f"blocks.{i - 1}.mid_se.{fc}" for fc in ("fc1", "fc2")}
            )
    return modules


# ours, torchvision's, the authors'
_CONVNEXT_BLOCK = (
    ("", "", ""),
    (".conv_dw", ".block.0", ".dwconv"),
    (".norm", ".block.2", ".norm"),
    (".mlp.fc1", ".block.3", ".pwconv1"),
    (".mlp.fc2", ".block.5", ".pwconv2"),
)


def _convnext(repeats: Sequence[int]) -> dict[str, str]:
    modules = {"head.norm": "norm", "head.fc": "fc", "classifier.0": "norm", "classifier.2": "fc", "head": "fc"}
    for stage, count in enumerate(repeats):
        for j in (0, 1):
            ours = f"stages.{stage}.downsample.{j}" if stage else f"stem.{j}"
            modules[f"features.{2 * stage}.{j}"] = modules[f"downsample_layers.{stage}.{j}"] = ours
        for i in range(count):
            for part, torchvision, authors in _CONVNEXT_BLOCK:
                ours = f"stages.{stage}.blocks.{i}{part}"
                modules[f"features.{2 * stage + 1}.{i}{torchvision}"] = ours
                modules[f"stages.{stage}.{i}{authors}"] = ours
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

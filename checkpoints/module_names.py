"""The modules of each family under other projects' names, and under ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

from models import ARCHITECTURES, convnext, efficientnet, efficientnet_lite, mobilenet_v3, resnet_vd, vit

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


def ours(arch: str, names: list[str]) -> dict[str, str]:
    """Return {another project's name of a module of `arch`: ours}; `names` are those of weights, unwrapped."""
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
    features = [re.match(r"features\.(\d+)\.(?:block\.(\d+)\.(fc1)?)?", name) for name in names]
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

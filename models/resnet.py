"""paddle.vision's ResNet family, returning `Outputs`; the names in its state dict are unchanged."""

from __future__ import annotations

import paddle
import paddle.vision.models as vision
from paddle.vision.models.resnet import BasicBlock, BottleneckBlock

from models.network import Architecture, StagedNetwork
from models.outputs import Outputs


class ResNet(StagedNetwork, vision.ResNet):
    """ResNet, ResNeXt and Wide ResNet (He et al., arXiv 1512.03385; 1611.05431; 1605.07146).

    `maps` are the outputs of `layer1` to `layer4`, each after its last ReLU.
    """

    head_name = "fc"
    stage_names = ("layer1", "layer2", "layer3", "layer4")

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.stage_outputs(x)
        features = self.avgpool(maps[-1]).flatten(1)
        return Outputs(self.fc(features), features, maps)


# depth, block, base width, groups of each architecture
_FAMILY = {
    "resnet18": (18, BasicBlock, 64, 1),
    "resnet34": (34, BasicBlock, 64, 1),
    "resnet50": (50, BottleneckBlock, 64, 1),
    "resnet101": (101, BottleneckBlock, 64, 1),
    "resnet152": (152, BottleneckBlock, 64, 1),
    "resnext50_32x4d": (50, BottleneckBlock, 4, 32),
    "resnext50_64x4d": (50, BottleneckBlock, 4, 64),
    "resnext101_32x4d": (101, BottleneckBlock, 4, 32),
    "resnext101_64x4d": (101, BottleneckBlock, 4, 64),
    "resnext152_32x4d": (152, BottleneckBlock, 4, 32),
    "resnext152_64x4d": (152, BottleneckBlock, 4, 64),
    "wide_resnet50_2": (50, BottleneckBlock, 128, 1),
    "wide_resnet101_2": (101, BottleneckBlock, 128, 1),
}


ARCHITECTURES = {
    name: Architecture(
        ResNet, {"depth": depth, "block": block, "width": width, "groups": groups}, features=512 * block.expansion
    )
    for name, (depth, block, width, groups) in _FAMILY.items()
}

"""paddle.vision's ResNet family, returning `Outputs`; the names in its state dict are unchanged."""

from __future__ import annotations

import paddle.vision.models as vision
from paddle.vision.models.resnet import BasicBlock, BottleneckBlock

from models.outputs import Outputs

HEAD_NAME = "fc"  # in the state dict


class ResNet(vision.ResNet):
    """ResNet, ResNeXt and Wide ResNet (He et al., arXiv 1512.03385; 1611.05431; 1605.07146).

    `maps` are the outputs of `layer1` to `layer4`, each after its last ReLU.
    """

    head_name = HEAD_NAME

    @property
    def head(self):
        """The classifier, the one part that is new when the network is fine-tuned."""
        return self.fc

    def forward(self, images) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        features = self.avgpool(x).flatten(1)
        return Outputs(self.fc(features), features, tuple(maps))


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


def _constructor(depth, block, width, groups):
    return lambda classes: ResNet(block, depth, width=width, groups=groups, num_classes=classes)


ARCHITECTURES = {name: _constructor(*row) for name, row in _FAMILY.items()}

"""ResNet-vd (He et al., arXiv 1812.01187, version D) as PaddleClas builds it, with timm's names of the same weights.

Three 3x3 convolutions in place of the 7x7 stem; where a shortcut halves the map, an average pool does it before a 1x1
convolution of stride 1. ResNet-18's first block has a shortcut convolution too, which timm's `resnet18d` lacks.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision.models.resnet import BasicBlock, BottleneckBlock

from models.network import Architecture, StagedNetwork
from models.outputs import Outputs

_CHANNELS = (64, 128, 256, 512)


def _conv(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    return nn.Conv2D(channels_in, channels, kernel, stride, kernel // 2, bias_attr=False)


class ResNetVD(StagedNetwork, nn.Layer):
    """Deep stem, four stages, pooling, one linear head.

    `maps` are the outputs of `layer1` to `layer4`, each after its last ReLU.

    Args:
        block: of the stages.
        repeats: the number of blocks in each stage.
        num_classes: outputs of the head.
    """

    head_name = "fc"
    stage_names = ("layer1", "layer2", "layer3", "layer4")

    def __init__(
        self, block: type[BasicBlock | BottleneckBlock], repeats: tuple[int, int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            *(_conv(3, 32, 3, stride=2), nn.BatchNorm2D(32), nn.ReLU()),
            *(_conv(32, 32, 3), nn.BatchNorm2D(32), nn.ReLU()),
            _conv(32, 64, 3),
        )
        self.bn1 = nn.BatchNorm2D(64)
        channels = 64
        for name, planes, count in zip(self.stage_names, _CHANNELS, repeats):
            setattr(self, name, self._stage(block, channels, planes, count))
            channels = planes * block.expansion
        self.fc = nn.Linear(channels, num_classes)

    @staticmethod
    def _stage(block: type[BasicBlock | BottleneckBlock], channels_in: int, planes: int, count: int) -> nn.Sequential:
        channels, stride = planes * block.expansion, 1 if planes == _CHANNELS[0] else 2
        pool = nn.Identity() if stride == 1 else nn.AvgPool2D(2, 2, ceil_mode=True)
        shortcut = nn.Sequential(pool, _conv(channels_in, channels, 1), nn.BatchNorm2D(channels))
        first = block(channels_in, planes, stride, downsample=shortcut)
        return nn.Sequential(first, *(block(channels, planes) for _ in range(count - 1)))

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        maps = self.stage_outputs(x)
        features = maps[-1].mean(axis=[2, 3])
        return Outputs(self.fc(features), features, maps)


ARCHITECTURES = {
    "resnet18_vd": Architecture(ResNetVD, {"block": BasicBlock, "repeats": (2, 2, 2, 2)}, features=512),
    "resnet50_vd": Architecture(ResNetVD, {"block": BottleneckBlock, "repeats": (3, 4, 6, 3)}, features=2048),
}

"""The small ResNet for 32-pixel images of He et al., arXiv 1512.03385, section 4.2."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision.models.resnet import BasicBlock

from models.network import Architecture, StagedNetwork
from models.outputs import Outputs


class Shortcut(nn.Layer):
    """Option A of the paper: take every second pixel and pad the new channels with zeros; no parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [B, C, H, W] to [B, C + new_channels, ceil(H/2), ceil(W/2)]."""
        x = x[:, :, ::2, ::2]
        zeros = paddle.zeros_like(x[:, :1]).expand([-1, self.new_channels, -1, -1])
        return paddle.concat([x, zeros], axis=1)  # F.pad overwrites foreign memory under oneDNN, in an exported network


class ResNetCIFAR(StagedNetwork, nn.Layer):
    """Depth 6n + 2: a 3x3 stem, three stages of n blocks at 16, 32 and 64 channels, pooling, one linear head.

    `maps` are the outputs of `layer1` to `layer3`, each after its last ReLU.
    """

    head_name = "fc"
    stage_names = ("layer1", "layer2", "layer3")

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2D(3, 16, 3, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(16)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.fc = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
        grows = channels != channels_in
        first = BasicBlock(
            channels_in,
            channels,
            stride=2 if grows else 1,
            downsample=Shortcut(channels - channels_in) if grows else None,
        )
        return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`."""
        x = F.relu(self.bn1(self.conv1(images)))
        maps = self.stage_outputs(x)
        features = maps[-1].mean(axis=[2, 3])
        return Outputs(self.fc(features), features, maps)


ARCHITECTURES = {
    f"resnet{depth}": Architecture(ResNetCIFAR, {"depth": depth}, features=64, image_size=32) for depth in (8, 14, 20)
}

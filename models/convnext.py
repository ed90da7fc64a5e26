"""ConvNeXt (Liu et al., arXiv 2201.03545), with timm's names but for `norm` and `fc`, there `head.norm`, `head.fc`."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from models.network import Architecture, Network
from models.outputs import Outputs

_EPSILON = 1e-6
_DROP_PATH = 0.1


def _normal() -> nn.initializer.Initializer:
    return nn.initializer.TruncatedNormal(std=0.02)


def _conv(channels_in: int, channels: int, kernel: int, stride: int, padding: int = 0, groups: int = 1) -> nn.Conv2D:
    return nn.Conv2D(channels_in, channels, kernel, stride, padding, groups=groups, weight_attr=_normal())


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [B, C, H, W], at each pixel by itself."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the normalised map, of the same shape."""
        return super().forward(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class MLP(nn.Layer):
    """Two linear layers with GELU between them, the inner one four times as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels, weight_attr=_normal())
        self.fc2 = nn.Linear(4 * channels, channels, weight_attr=_normal())

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [..., C] to [..., C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Layer):
    """Depthwise 7x7 convolution, normalisation, `MLP`, a learned scale for each channel, and the skip.

    Args:
        channels: of input and output.
        drop_rate: the probability, in training, that an image takes the skip alone.
    """

    def __init__(self, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.gamma = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1e-6))
        self.conv_dw = _conv(channels, channels, 7, 1, 3, groups=channels)
        self.norm = nn.LayerNorm(channels, epsilon=_EPSILON)
        self.mlp = MLP(channels)
        self.drop_rate = drop_rate

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        x = self.norm(self.conv_dw(inputs).transpose([0, 2, 3, 1]))
        x = (self.mlp(x) * self.gamma).transpose([0, 3, 1, 2])
        return F.dropout(x, self.drop_rate, axis=0, training=self.training) + inputs


class Stage(nn.Layer):
    """Halve the map, but for the first stage, and run the blocks."""

    def __init__(self, channels_in: int, channels: int, drop_rates: list[float]) -> None:
        super().__init__()
        if channels_in != channels:
            norm = ChannelNorm(channels_in, epsilon=_EPSILON)
            self.downsample = nn.Sequential(norm, _conv(channels_in, channels, 2, 2))
        else:
            self.downsample = nn.Identity()
        self.blocks = nn.Sequential(*(Block(channels, rate) for rate in drop_rates))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [B, channels_in, H, W] to [B, channels, h, w]."""
        return self.blocks(self.downsample(x))


class ConvNeXt(Network, nn.Layer):
    """Stem, four stages, pooling, normalisation, one linear head.

    `maps` are the outputs of the stages, 1/4 to 1/32; `features` are pooled from the last one and normalised. The
    blocks are not those of a ResNet, so there are no `stage_names`.

    Args:
        channels: of each stage.
        repeats: the number of blocks in each stage.
        num_classes: outputs of the head.
    """

    head_name = "fc"
    block_names = tuple(f"stages.{i}.blocks" for i in range(4))
    normalises_batches = False

    def __init__(self, channels: tuple[int, ...], repeats: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        norm = ChannelNorm(channels[0], epsilon=_EPSILON)
        self.stem = nn.Sequential(_conv(3, channels[0], 4, 4), norm)
        last = sum(repeats) - 1
        rates = iter([_DROP_PATH * i / last for i in range(last + 1)])
        self.stages = nn.LayerList(
            Stage(before, width, [next(rates) for _ in range(count)])
            for before, width, count in zip([channels[0], *channels], channels, repeats)
        )
        self.norm = nn.LayerNorm(channels[-1], epsilon=_EPSILON)
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`; in training, dropped paths draw from paddle's generator."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        features = self.norm(x.mean(axis=[2, 3]))
        return Outputs(self.fc(features), features, tuple(maps))


ARCHITECTURES = {
    "convnext_tiny": Architecture(
        ConvNeXt, {"channels": (96, 192, 384, 768), "repeats": (3, 3, 9, 3)}, smallest=32, features=768
    )
}

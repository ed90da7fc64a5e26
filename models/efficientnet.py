"""EfficientNet (Tan and Le, arXiv 1905.11946): B0, and B4 as the authors of SMILE use it.

The network of the TensorFlow release and of lukemelas's port, whose names the state dict has: convolutions padded as
TensorFlow's SAME (at an even size a stride of 2 pads one less before than after), batch normalisation with epsilon
1e-3 and momentum 0.99, swish, squeeze and excitation, drop-connect rising to 0.2. Weights named `tf_efficientnet_*`
by timm belong to it; those of timm's and torchvision's `efficientnet_*` were trained with symmetric padding and
epsilon 1e-5: their edition is the variant "symmetric".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import nn

from models.network import Architecture, Network, PretrainedWith, Variant
from models.outputs import Outputs

_DROP_CONNECT = 0.2
_FEATURES = 1280  # inputs of B0's head

# repeats, kernel, stride, expansion, channels of the seven stages of B0
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# width and depth as multiples of B0's, dropout before the head, side of the published images
_FAMILY = {
    "efficientnet_b0": (1.0, 1.0, 0.2, 224),
    "efficientnet_b4": (1.4, 1.8, 0.4, 380),
}


@dataclass(frozen=True)
class Style:
    """What the editions of the network differ in, besides their size.

    Attributes:
        padding: "SAME" as in TensorFlow, or "symmetric".
        epsilon: of batch normalisation.
        momentum: of batch normalisation, the share of the old statistics.
        activation: everywhere but in the gates.
        squeezes: whether blocks have squeeze and excitation.
        fixed_ends: whether stem, head and the depth of the first and last stage are those of B0.
    """

    padding: str = "SAME"
    epsilon: float = 1e-3
    momentum: float = 0.99
    activation: Callable[[paddle.Tensor], paddle.Tensor] = F.swish
    squeezes: bool = True
    fixed_ends: bool = False

    def conv(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2D:
        """Return a convolution without bias, padded in this style."""
        # the release's; the framework's own counts all channels for a depthwise kernel, whose output then falls below
        # the epsilon of the normalisation
        normal = nn.initializer.Normal(std=math.sqrt(2 * groups / (kernel**2 * channels)))
        padding = kernel // 2 if self.padding == "symmetric" else self.padding
        return nn.Conv2D(
            channels_in, channels, kernel, stride, padding, groups=groups, weight_attr=normal, bias_attr=False
        )

    def norm(self, channels: int) -> nn.BatchNorm2D:
        """Return a batch normalisation."""
        return nn.BatchNorm2D(channels, momentum=self.momentum, epsilon=self.epsilon)


RELEASE = Style()


def stage_repeats(depth: float, style: Style = RELEASE) -> list[int]:
    """Return the number of blocks in each of the seven stages of a network of `depth` times B0's."""
    counts = [math.ceil(stage[0] * depth) for stage in _STAGES]
    return [_STAGES[0][0], *counts[1:-1], _STAGES[-1][0]] if style.fixed_ends else counts


def round_channels(channels: float) -> int:
    """Return the multiple of 8 nearest to `channels`, or the next one where that loses more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MBConv(nn.Layer):
    """One inverted bottleneck: expand, depthwise convolution, squeeze and excitation, project, and the skip.

    Args:
        channels_in: of the input.
        channels: of the output.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
        expansion: inner channels as a multiple of `channels_in`; 1 leaves the expanding convolution out.
        drop_rate: the probability, in training, that an image takes the skip alone.
        style: the edition of the network.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        drop_rate: float = 0.0,
        style: Style = RELEASE,
    ) -> None:
        super().__init__()
        self.style = style
        inner, squeezed = channels_in * expansion, max(1, channels_in // 4)
        self.expands = expansion != 1
        self.skips = stride == 1 and channels_in == channels
        self.drop_rate = drop_rate
        if self.expands:
            self._expand_conv = style.conv(channels_in, inner, 1)
            self._bn0 = style.norm(inner)
        self._depthwise_conv = style.conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = style.norm(inner)
        if style.squeezes:
            self._se_reduce = nn.Conv2D(inner, squeezed, 1)
            self._se_expand = nn.Conv2D(squeezed, inner, 1)
        self._project_conv = style.conv(inner, channels, 1)
        self._bn2 = style.norm(channels)

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        """Map [B, channels_in, H, W] to [B, channels, ceil(H / stride), ceil(W / stride)]."""
        activation = self.style.activation
        x = activation(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        x = activation(self._bn1(self._depthwise_conv(x)))
        if self.style.squeezes:
            squeezed = activation(self._se_reduce(x.mean(axis=[2, 3], keepdim=True)))
            x = F.sigmoid(self._se_expand(squeezed)) * x
        x = self._bn2(self._project_conv(x))
        if not self.skips:
            return x
        # one draw for each image, kept branches scaled by 1 / (1 - rate)
        return F.dropout(x, self.drop_rate, axis=0, training=self.training) + inputs


class EfficientNet(Network, nn.Layer):
    """Stem, seven stages of `MBConv`, a 1x1 convolution, pooling, dropout, one linear head.

    `maps` are the outputs of the last block at each of the five resolutions, 1/2 to 1/32. So, unlike a ResNet's, the
    last map does not feed the pool: `_conv_head` comes between. It is what the authors of SMILE compare
    (`_blocks.31` of B4), and pooled what BSS decomposes. `features` are pooled behind `_conv_head`, after dropout: a
    second head reads what the first one does, as in their code.

    Args:
        width: channels as a multiple of B0's.
        depth: blocks as a multiple of B0's.
        dropout: the rate before the head.
        num_classes: outputs of the head.
        style: the edition of the network.
    """

    head_name = "_fc"
    block_names = ("_blocks",)

    def __init__(self, width: float, depth: float, dropout: float, num_classes: int, style: Style = RELEASE) -> None:
        super().__init__()
        blocks = [
            (kernel, stride if first else 1, expansion, round_channels(channels * width))
            for (_, kernel, stride, expansion, channels), count in zip(_STAGES, stage_repeats(depth, style))
            for first in [True] + [False] * (count - 1)
        ]
        width_of_ends = 1.0 if style.fixed_ends else width
        channels = round_channels(32 * width_of_ends)
        self._conv_stem = style.conv(3, channels, 3, stride=2)
        self._bn0 = style.norm(channels)
        self._blocks = nn.LayerList()
        for i, (kernel, stride, expansion, channels_out) in enumerate(blocks):
            drop_rate = _DROP_CONNECT * i / len(blocks)
            self._blocks.append(MBConv(channels, channels_out, kernel, stride, expansion, drop_rate, style))
            channels = channels_out
        features = round_channels(_FEATURES * width_of_ends)
        self._conv_head = style.conv(channels, features, 1)
        self._bn1 = style.norm(features)
        self._fc = nn.Linear(features, num_classes)
        self.dropout, self.activation = dropout, style.activation
        strides = [stride for _, stride, _, _ in blocks]
        self._ends = [i for i, following in enumerate([*strides[1:], 2]) if following == 2]

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`; in training, dropout draws from paddle's generator."""
        x = self.activation(self._bn0(self._conv_stem(images)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self._ends:
                maps.append(x)
        features = self._head_map(x).mean(axis=[2, 3])
        features = F.dropout(features, self.dropout, training=self.training)
        return Outputs(self._fc(features), features, tuple(maps))

    def head_map(self, outputs: Outputs) -> paddle.Tensor:
        """Return the output of `_conv_head`, activated, [B, C, H, W]."""
        return self._head_map(outputs.maps[-1])

    def _head_map(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.activation(self._bn1(self._conv_head(x)))


# timm's and torchvision's editions: padded alike on both sides, and resized with the bicubic kernel
SYMMETRIC = Variant({"style": Style("symmetric", epsilon=1e-5, momentum=0.9)}, PretrainedWith(interpolation="bicubic"))

ARCHITECTURES = {
    name: Architecture(
        EfficientNet,
        {"width": width, "depth": depth, "dropout": dropout},
        image_size,
        features=round_channels(_FEATURES * width),
        variants={"symmetric": SYMMETRIC},
    )
    for name, (width, depth, dropout, image_size) in _FAMILY.items()
}

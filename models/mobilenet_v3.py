"""paddle.vision's MobileNetV3, returning `Outputs`; the names in its state dict are unchanged."""

from __future__ import annotations

import paddle
import paddle.vision.models as vision

from models.network import Architecture, Network
from models.outputs import Outputs


class _MobileNetV3(Network):
    """MobileNetV3 (Howard et al., arXiv 1905.02244).

    `maps` are the outputs of the last layer at each resolution, 1/2 to 1/32; the last one, that of the last 1x1
    convolution, feeds the pool. `features` are the hidden layer of the classifier after dropout, which the head reads.
    """

    head_name = "classifier.3"
    block_names = ("blocks",)

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`; in training, dropout draws from paddle's generator."""
        x = self.conv(images)
        maps = []
        for block, config in zip(self.blocks, self.config):
            if config.stride == 2:  # what came before was the last at its resolution
                maps.append(x)
            x = block(x)
        maps.append(self.lastconv(x))
        hidden, activation, dropout, head = self.classifier
        features = dropout(activation(hidden(self.avgpool(maps[-1]).flatten(1))))
        return Outputs(head(features), features, tuple(maps))


class MobileNetV3Large(_MobileNetV3, vision.MobileNetV3Large):
    """The larger of the two."""


class MobileNetV3Small(_MobileNetV3, vision.MobileNetV3Small):
    """The smaller of the two."""


ARCHITECTURES = {
    "mobilenet_v3_large": Architecture(MobileNetV3Large, {}, features=1280),
    "mobilenet_v3_small": Architecture(MobileNetV3Small, {}, features=1024),
}

"""paddle.vision's MobileNetV2, returning `Outputs`; the names in its state dict are unchanged."""

from __future__ import annotations

import paddle
import paddle.vision.models as vision

from models.network import Architecture, Network
from models.outputs import Outputs

# the last layers of `features` at resolution 1/2, 1/4, 1/8, 1/16, 1/32
_ENDS = (1, 3, 6, 13, 18)


class MobileNetV2(Network, vision.MobileNetV2):
    """MobileNetV2 (Sandler et al., arXiv 1801.04381).

    `maps` are the outputs of the last layer at each resolution, 1/2 to 1/32; the last one, that of the 1x1
    convolution to 1280 channels, feeds the pool. `features` are pooled, after dropout.
    """

    head_name = "classifier.1"
    block_names = ("features",)

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`; in training, dropout draws from paddle's generator."""
        x = images
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _ENDS:
                maps.append(x)
        features = self.classifier[0](self.pool2d_avg(x).flatten(1))  # dropout
        return Outputs(self.head(features), features, tuple(maps))

    def head_map(self, outputs: Outputs) -> paddle.Tensor:
        """Return the last map, [B, C, H, W]."""
        return outputs.maps[-1]


ARCHITECTURES = {"mobilenet_v2": Architecture(MobileNetV2, {}, features=1280)}

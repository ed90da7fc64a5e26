"""EfficientNet-Lite0 to Lite2, the edition for small devices of the TensorFlow release.

EfficientNet (arXiv 1905.11946) without squeeze and excitation, with ReLU6 in place of swish, and with the stem, the
head and the depth of the first and last stage of B0 at every size. Padding, normalisation and names are those of
`models.efficientnet`. The published weights take images in [-1, 1]. timm's `efficientnet_lite0`, without `tf_`, was
trained otherwise: it is the variant "symmetric".
"""

from __future__ import annotations

from dataclasses import replace

import paddle.nn.functional as F

from models.efficientnet import EfficientNet, Style
from models.network import HALF, Architecture, PretrainedWith, Variant

LITE = Style(activation=F.relu6, squeezes=False, fixed_ends=True)

# width and depth as multiples of B0's, dropout before the head, side of the published images, their share of the resize
_FAMILY = {
    "efficientnet_lite0": (1.0, 1.0, 0.2, 224, 0.875),
    "efficientnet_lite1": (1.0, 1.1, 0.2, 240, 0.882),
    "efficientnet_lite2": (1.1, 1.2, 0.3, 260, 0.890),
}

_SYMMETRIC = Variant(
    {"style": replace(LITE, padding="symmetric", epsilon=1e-5, momentum=0.9)}, PretrainedWith(interpolation="bicubic")
)

ARCHITECTURES = {
    name: Architecture(
        EfficientNet,
        {"width": width, "depth": depth, "dropout": dropout, "style": LITE},
        image_size,
        features=1280,
        # bicubic, as timm does: with Pillow it comes nearer to TensorFlow's bilinear resize, which does not average
        pretrained_with=PretrainedWith(HALF, HALF, "bicubic"),
        crop_share=crop_share,
        variants={"symmetric": _SYMMETRIC},
    )
    for name, (width, depth, dropout, image_size, crop_share) in _FAMILY.items()
}

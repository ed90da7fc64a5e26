"""What every network of this project returns."""

from __future__ import annotations

from typing import NamedTuple

import paddle


class Outputs(NamedTuple):
    """One forward pass.

    Attributes:
        logits: class scores before the softmax, [B, K].
        features: what the head reads, [B, C], after dropout where the network has one; of a ResNet the pooled last map.
        maps: the stage outputs from fine to coarse, each [B, C_i, H_i, W_i]; the last one is what is compared
            with a teacher.
    """

    logits: paddle.Tensor
    features: paddle.Tensor
    maps: tuple[paddle.Tensor, ...]

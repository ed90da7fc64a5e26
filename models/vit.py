"""The vision transformer (Dosovitskiy et al., arXiv 2010.11929), with timm's names but for `fc`, there `head`.

DeiT (Touvron et al., arXiv 2012.12877) is the same network, trained with other images: ImageNet's mean and deviation.
"""

from __future__ import annotations

import functools

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from PIL import Image

from models.network import HALF, Architecture, Network, PretrainedWith
from models.outputs import Outputs

_EPSILON = 1e-6


class Attention(nn.Layer):
    """Self-attention over the tokens, all three projections in one matrix."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        tokens, channels = x.shape[1:]
        qkv = self.qkv(x).reshape([-1, tokens, 3, self.heads, channels // self.heads])
        query, key, value = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)  # each [B, heads, N, d]
        weights = F.softmax(paddle.matmul(query * query.shape[-1] ** -0.5, key, transpose_y=True), axis=-1)
        return self.proj(paddle.matmul(weights, value).transpose([0, 2, 1, 3]).reshape([-1, tokens, channels]))


class MLP(nn.Layer):
    """Two linear layers with GELU between them, the inner one four times as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Layer):
    """Attention and `MLP`, each behind a normalisation and with a skip."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, epsilon=_EPSILON)
        self.attn = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, epsilon=_EPSILON)
        self.mlp = MLP(channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Layer):
    """The linear projection of the patches."""

    def __init__(self, patch: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2D(3, channels, patch, patch)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Map [B, 3, H, W] to the grid [B, C, H // patch, W // patch]."""
        return self.proj(images)


class VisionTransformer(Network, nn.Layer):
    """Patches, a class token, positions, blocks, normalisation, one linear head on the class token.

    The positions are learned for images of 224 pixels; for others they are resampled with the bicubic kernel, and the
    weights keep their shape. `maps` is the grid of the last block's tokens alone; `features` are its class token,
    normalised. There are no stages.

    Args:
        patch: side of a patch in pixels.
        channels: of a token.
        depth: the number of blocks.
        heads: of the attention.
        num_classes: outputs of the head.
    """

    head_name = "fc"
    block_names = ("blocks",)
    normalises_batches = False

    def __init__(self, patch: int, channels: int, depth: int, heads: int, num_classes: int) -> None:
        super().__init__()
        self.side = 224 // patch
        normal = nn.initializer.TruncatedNormal(std=0.02)
        self.cls_token = self.create_parameter([1, 1, channels], default_initializer=normal)
        self.pos_embed = self.create_parameter([1, 1 + self.side**2, channels], default_initializer=normal)
        self.patch_embed = Patches(patch, channels)
        self.blocks = nn.Sequential(*(Block(channels, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels, epsilon=_EPSILON)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, H, W] to `Outputs`."""
        grid = self.patch_embed(images)
        channels, height, width = grid.shape[1:]
        positions = self._positions(height, width)
        tokens = grid.flatten(2).transpose([0, 2, 1]) + positions[:, 1:]
        first = (self.cls_token + positions[:, :1]).expand_as(tokens[:, :1])
        tokens = self.blocks(paddle.concat([first, tokens], axis=1))
        last = tokens[:, 1:].transpose([0, 2, 1]).reshape([-1, channels, height, width])
        features = self.norm(tokens[:, 0])
        return Outputs(self.fc(features), features, (last,))

    def _positions(self, height: int, width: int) -> paddle.Tensor:
        if height == width == self.side:
            return self.pos_embed
        rows, columns = (paddle.to_tensor(resampling(self.side, size)) for size in (height, width))
        grid = self.pos_embed[0, 1:].reshape([self.side, self.side, -1])
        grid = paddle.einsum("hy,yxc,wx->hwc", rows, grid, columns).reshape([1, height * width, -1])
        return paddle.concat([self.pos_embed[:, :1], grid], axis=1)


@functools.lru_cache
def resampling(old: int, new: int) -> np.ndarray:
    """Return the bicubic, averaging resize from `old` to `new` points as a matrix, float32 [new, old]."""
    return np.asarray(Image.fromarray(np.eye(old, dtype="float32")).resize((old, new), Image.BICUBIC))


_SMALL = {"patch": 16, "channels": 384, "depth": 12, "heads": 6}

ARCHITECTURES = {
    name: Architecture(
        VisionTransformer, _SMALL, features=384, smallest=16, pretrained_with=trained_with, crop_share=0.9
    )
    for name, trained_with in (
        ("vit_small_patch16_224", PretrainedWith(HALF, HALF, "bicubic")),
        ("deit_small_patch16_224", PretrainedWith(interpolation="bicubic")),
    )
}

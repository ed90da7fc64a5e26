"""Class activation maps: which positions of an image a logit comes from (Zhou et al., arXiv 1512.04150).

Where a linear head reads the mean of a map A [C, H, W], the logit of class k is a sum over positions,

    z_k = b_k + sum_{h,w} m_k(h, w),   m_k(h, w) = 1 / (H W) sum_c W_{c,k} A_c(h, w),

so m_k is exact: nothing but the bias is missing. What one position says comes from its receptive field, which is wider
than its pixels.
"""

from __future__ import annotations

import numpy as np
import paddle
from PIL import Image

from models import Network

_FOR, _AGAINST = np.array([214, 48, 36]), np.array([36, 98, 214])  # red, blue
_STRONGEST = 0.7  # share of the colour where the map is furthest from 0


@paddle.no_grad()
def contributions(network: Network, images: paddle.Tensor, classes: np.ndarray) -> np.ndarray | None:
    """Return the contribution of each position to the logit of one class or several of each image.

    The sum over the positions is the logit minus the head's bias.

    Args:
        network: in eval mode.
        images: normalised, [B, 3, H, W].
        classes: of each image, int [B, M].

    Returns:
        [B, M, h, w], of the network's type; None where its head does not read the mean of a map.
    """
    maps = network.head_map(network(images))
    if maps is None:
        return None
    maps, weights = maps.numpy(), network.head.weight.numpy()
    chosen = weights.T[classes]  # [B, M, C]
    return np.einsum("bmc,bchw->bmhw", chosen, maps) / (maps.shape[2] * maps.shape[3])


def overlay(crop: np.ndarray, values: np.ndarray, side: int) -> Image.Image:
    """Return an image in grey below a map of it: red where `values` are above 0, blue where they are below.

    Args:
        crop: uint8 [S, S, 3].
        values: [h, w]; the furthest from 0 has the full colour.
        side: of the result, in pixels.
    """
    values = np.nan_to_num(values)
    grey = np.asarray(Image.fromarray(crop).convert("L").resize((side, side), Image.Resampling.BICUBIC))
    scaled = values / (np.abs(values).max() or 1.0)
    wide = Image.fromarray(scaled.astype("float32")).resize((side, side), Image.Resampling.BILINEAR)
    strength = np.asarray(wide)[:, :, None]
    colour = np.where(strength > 0, _FOR, _AGAINST)
    share = np.abs(strength) * _STRONGEST
    return Image.fromarray((grey[:, :, None] * (1 - share) + colour * share).round().astype("uint8"))


def where(values: np.ndarray) -> str:
    """Return in words where `values` [h, w] are highest: "upper left", "centre", "right" ..."""
    row, column = np.unravel_index(values.argmax(), values.shape)
    height, width = values.shape
    vertical = ("upper", "", "lower")[min(2, int(3 * (row + 0.5) / height))]
    horizontal = ("left", "", "right")[min(2, int(3 * (column + 0.5) / width))]
    return f"{vertical} {horizontal}".strip() or "centre"

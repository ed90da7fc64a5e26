"""CutMix (Yun et al., ICCV 2019, arXiv 1905.04899).

    x_mix = x outside a box and x[pi] inside,   loss = lam * CE(z, y) + (1 - lam) * CE(z, y[pi])

with one box and one permutation pi for the batch, z the logits of x_mix. The box has sqrt(1 - r) of each side of the
image, r ~ Beta(cutmix_alpha, cutmix_alpha), a centre anywhere in the image, and is cut off at the border; lam is the
share of the pixels outside it. Unlike mixup's, r is not folded: a box and its complement are not alike.

The rounding of the box is the official code's, the defaults are those it gives for CIFAR (for ImageNet: cutmix_prob 1).
SMILE's authors in PyTorch take 0.2 for cutmix_alpha.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle

from datasets.batch import Batch, Mix
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup
from utils.rng import generator


def draw_box(rng: np.random.Generator, ratio: float, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a box with sqrt(1 - ratio) of each side, before it is cut off at the border."""
    sides = []
    for size in (height, width):
        half = int(size * np.sqrt(1 - ratio)) // 2
        centre = int(rng.integers(size))
        sides.append(slice(max(centre - half, 0), min(centre + half, size)))
    return tuple(sides)


class CutMix(Regularizer):
    """Train on images with a box of another image in them, and on both labels by area.

    Args:
        cutmix_alpha: of Beta(cutmix_alpha, cutmix_alpha); 1 draws uniformly.
        cutmix_prob: the share of the batches that are cut; the others stay clean.
    """

    def __init__(self, *, cutmix_alpha: float = 1.0, cutmix_prob: float = 0.5):
        super().__init__()
        validate.positive(cutmix_alpha=cutmix_alpha)
        validate.share(cutmix_prob=cutmix_prob)
        self.cutmix_alpha, self.cutmix_prob = cutmix_alpha, cutmix_prob

    def requirements(self) -> Requirements:
        return Requirements(mixes=True)

    def prepare(self, setup: Setup) -> None:
        self.seed = setup.seed

    def transform(self, batch: Batch, step: int) -> Batch:
        rng = generator(self.seed, "mix", step)
        if rng.random() >= self.cutmix_prob:
            return batch
        count, _, height, width = batch.images.shape
        inside = np.zeros((height, width), bool)
        inside[draw_box(rng, rng.beta(self.cutmix_alpha, self.cutmix_alpha), height, width)] = True
        partner = paddle.to_tensor(rng.permutation(count))
        mix = Mix(images=batch.images, partner=partner, ratio=float(1 - inside.mean()))
        images = paddle.where(paddle.to_tensor(inside), paddle.gather(batch.images, partner), batch.images)
        return replace(batch, images=images, targets=mix.blend(batch.targets), mix=mix)

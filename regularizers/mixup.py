"""Mixup (Zhang et al., ICLR 2018, arXiv 1710.09412).

    x_mix = lam * x + (1 - lam) * x[pi],   loss = lam * CE(z, y) + (1 - lam) * CE(z, y[pi])

with one lam ~ Beta(alpha, alpha) and one permutation pi for the batch, z the logits of x_mix. Since CE is linear in
its target, the loss is CE against the mixed target distribution. lam is folded to max(lam, 1 - lam), which changes
nothing in distribution and makes image i the larger part of mixed image i.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle

from datasets.batch import Batch, Mix
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup
from utils.rng import generator


def draw_ratio(rng: np.random.Generator, alpha: float) -> float:
    """Return lam ~ Beta(alpha, alpha) folded to [0.5, 1]; 1 when alpha is 0."""
    ratio = rng.beta(alpha, alpha) if alpha > 0 else 1.0
    return float(max(ratio, 1 - ratio))


def mix_batch(batch: Batch, rng: np.random.Generator, alpha: float) -> Batch:
    """Return `batch` mixed with a random permutation of itself: images, targets, and the record of it."""
    ratio = draw_ratio(rng, alpha)
    partner = paddle.to_tensor(rng.permutation(batch.images.shape[0]))
    mix = Mix(images=batch.images, partner=partner, ratio=ratio)
    return replace(batch, images=mix.blend(batch.images), targets=mix.blend(batch.targets), mix=mix)


class Mixup(Regularizer):
    """Train on convex combinations of images and of their labels.

    Args:
        alpha: of Beta(alpha, alpha); 0.2 in the reference and in the authors' code.
    """

    def __init__(self, *, alpha: float = 0.2):
        super().__init__()
        validate.not_negative(alpha=alpha)
        self.alpha = alpha

    def requirements(self) -> Requirements:
        return Requirements(mixes=True)

    def prepare(self, setup: Setup) -> None:
        self.seed = setup.seed

    def transform(self, batch: Batch, step: int) -> Batch:
        return mix_batch(batch, generator(self.seed, "mix", step), self.alpha)

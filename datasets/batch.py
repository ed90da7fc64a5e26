"""A batch of images on the device, and how it was mixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import paddle


@dataclass(frozen=True)
class Mix:
    """How a batch was mixed with a permutation of itself.

    Attributes:
        images: the clean images, [B, 3, H, W].
        partner: the image each one was mixed with, int64 [B], a permutation.
        ratio: the share of the image itself, in [0, 1]; in [0.5, 1] where the method folds it.
    """

    images: paddle.Tensor
    partner: paddle.Tensor
    ratio: float

    def blend(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return `ratio * x + (1 - ratio) * x[partner]` along the first axis.

        Right for targets however the images were mixed, for images and maps where they were mixed linearly.
        """
        return self.ratio * x + (1 - self.ratio) * paddle.gather(x, self.partner)


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        images: normalised float32 [B, 3, H, W].
        targets: a distribution over the classes for each image, float32 [B, K].
        index: the position of each image in the training set, int64 [B].
        mix: how `images` and `targets` were mixed, None when they are clean.
        weights: what the loss of each image is multiplied by, float32 [B], of the clean images; None for 1.
    """

    images: paddle.Tensor
    targets: paddle.Tensor
    index: paddle.Tensor
    mix: Mix | None = None
    weights: paddle.Tensor | None = None

    def micro_batches(self, count: int) -> Iterator[Batch]:
        """Yield `count` micro-batches of equal size, which divides the batch's; their `mix` is the whole batch's.

        Their `weights` are mixed: a mixed image counts by the shares of the two.
        """
        weights = self.weights if self.weights is None or self.mix is None else self.mix.blend(self.weights)
        whole = self if weights is self.weights else replace(self, weights=weights)
        if count == 1:
            yield whole
            return
        size = self.index.shape[0] // count
        for start in range(0, count * size, size):
            rows = slice(start, start + size)
            parts = {name: getattr(whole, name)[rows] for name in ("images", "targets", "index")}
            yield replace(whole, **parts, weights=None if weights is None else weights[rows])

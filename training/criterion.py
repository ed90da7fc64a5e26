"""What the targets ask of the logits: the cross-entropy, with what the options of a run change about it."""

from __future__ import annotations

import numpy as np
import paddle

from regularizers.losses import cross_entropy
from training.options import Options


class Criterion:
    """The loss of a batch beside the method's terms. Without options it is `cross_entropy`, bit for bit.

        CE(logits, (1 - X) targets + X / C),   X = label_smoothing, C classes

    which is the smoothing of Szegedy et al., arXiv 1512.00567, section 7, for targets that are any distribution: mixed
    targets are smoothed as the mix of smoothed ones. Evaluation is not smoothed.

    Args:
        label_smoothing: X, from 0 to below 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    @classmethod
    def of(cls, options: Options, class_counts: np.ndarray) -> Criterion:
        """Return the criterion of a run whose training images are `class_counts` [C] for each class."""
        return cls(options.label_smoothing)

    def __call__(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Return the mean over the images of the loss of `logits` [B, C] for `targets` [B, C], a scalar."""
        if self.label_smoothing:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
        return cross_entropy(logits, targets)

"""What the targets ask of the logits: the cross-entropy, with what the options of a run change about it."""

from __future__ import annotations

import numpy as np
import paddle

from datasets.balance import class_weights
from regularizers.losses import cross_entropies, cross_entropy
from training.options import Options


class Criterion:
    """The loss of a batch beside the method's terms. Without options it is `cross_entropy`, bit for bit.

        CE(logits, (1 - X) targets + X / C),   X = label_smoothing, C classes

    which is the smoothing of Szegedy et al., arXiv 1512.00567, section 7, for targets that are any distribution: mixed
    targets are smoothed as the mix of smoothed ones. Evaluation is not smoothed.

    With class weights w the loss of image b counts sum_c w_c targets[b, c] times, of its targets before the smoothing;
    with a weight of its own as many times. The mean is over the images, not over the weights, so that micro-batches and
    ranks add up to the whole batch.

    Args:
        label_smoothing: X, from 0 to below 1.
        class_weights: w, [C]; None for weights of 1.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: np.ndarray | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else paddle.to_tensor(class_weights, dtype="float32")

    @classmethod
    def of(cls, options: Options, class_counts: np.ndarray) -> Criterion:
        """Return the criterion of a run whose training images are `class_counts` [C] for each class."""
        return cls(options.label_smoothing, class_weights(class_counts) if options.balance == "loss" else None)

    def __call__(
        self, logits: paddle.Tensor, targets: paddle.Tensor, weights: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return the mean over the images of the loss of `logits` [B, C] for `targets` [B, C], a scalar.

        Each loss is multiplied by the one of `weights` [B], if they are given.
        """
        if self.class_weights is not None:
            of_classes = (targets * self.class_weights).sum(axis=1)
            weights = of_classes if weights is None else weights * of_classes
        if self.label_smoothing:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
        if weights is None:
            return cross_entropy(logits, targets)
        return (weights * cross_entropies(logits, targets)).mean()

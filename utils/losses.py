"""Losses that more than one place needs."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F


def cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Return the cross-entropy against a distribution: -(1/B) sum_b sum_k targets[b, k] log softmax(logits)[b, k].

    Args:
        logits: [B, K], computed with in float32.
        targets: [B, K], one row a distribution: one-hot, mixed, or a teacher's softmax.

    Returns:
        A scalar, the mean over the batch. Gradient flows into both.
    """
    return -(targets * F.log_softmax(logits.astype("float32"), axis=1)).sum(axis=1).mean()

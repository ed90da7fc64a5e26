"""Losses and norms that more than one place needs, exact where paddle's own are not."""

from __future__ import annotations

import paddle

from utils.distributed import SINGLE_PROCESS, Ranks

TINY = 1e-30  # below it a square root's gradient is taken as 0


def cross_entropies(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Return the cross-entropy of each image against a distribution: -sum_k targets[b, k] log softmax(logits)[b, k].

    Not by paddle's own log_softmax: on the CPU that never falls below -64.

    Args:
        logits: [B, K], computed with in float32.
        targets: [B, K], one row a distribution: one-hot, mixed, or a teacher's softmax.

    Returns:
        [B]. Gradient flows into both.
    """
    logits = logits.astype("float32")
    return -(targets * (logits - paddle.logsumexp(logits, axis=1, keepdim=True))).sum(axis=1)


def cross_entropy(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Return the mean over the batch of `cross_entropies`, a scalar."""
    return cross_entropies(logits, targets).mean()


def frobenius_norm(x: paddle.Tensor, ranks: Ranks = SINGLE_PROCESS) -> paddle.Tensor:
    """Return the root of the sum of the squares of all elements of `x`, a float32 scalar; its gradient at 0 is 0.

    Over several ranks `x` is one rank's rows and the value the norm of all; the gradient is multiplied by the number of
    ranks, so that its mean over them is that of the norm.

    Not by paddle.norm: over millions of float32 values on the CPU that is off by some tenths of a percent.
    """
    squares = paddle.square(x.astype("float32")).sum()
    if ranks.count == 1:
        return squares * paddle.rsqrt(paddle.clip(squares, min=TINY))
    total = ranks.all_reduce_sum(squares)
    inverse = paddle.rsqrt(paddle.clip(total, min=TINY))
    return total * inverse + ranks.count / 2 * inverse * (squares - squares.detach())

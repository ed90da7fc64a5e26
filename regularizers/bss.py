"""BSS: batch spectral shrinkage against negative transfer (Chen et al., NeurIPS 2019).

    loss = CE + bss_lambda * sum_{i=1..bss_k} s_{m+1-i}^2

s_1 >= ... >= s_m, m = min(B, C), are the singular values of F [B, C], the pooled last maps of the batch: the bss_k
smallest, squared, not divided by B or C, so the value depends on the batch size (with several ranks: on each rank's
share of the batch). Of a ResNet, F is what the head reads; of EfficientNet it comes before the last convolution and
dropout, as in the code of SMILE's authors (448 channels of B4).

s_i^2 = ||u_i^T F||^2 for the left singular vector u_i, an eigenvector of F F^T. At u_i the norm is stationary, so with
u_i held constant both value and gradient, 2 s_i u_i v_i^T, are exact: there is no singular value decomposition and no
backward pass through one, whose gradient is not finite where values coincide.

Differs from the official code: that, and a bss_k above m means all m values.
"""

from __future__ import annotations

import paddle
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from regularizers import validate
from regularizers.base import Regularizer, Requirements


def smallest_singular_values(features: paddle.Tensor, k: int) -> paddle.Tensor:
    """Return the sum of the squares of the `k` smallest singular values of `features` [B, C].

    Returns:
        A float32 scalar; NaN when a feature is not finite. Gradient flows into `features`.
    """
    matrix = features.astype("float64")
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.t()
    with paddle.no_grad():
        # eigh refuses what is not finite; such features still make the value NaN, so that the run ends as diverged.
        gram = paddle.nan_to_num(matrix @ matrix.t(), nan=0.0, posinf=0.0, neginf=0.0)
        vectors = paddle.linalg.eigh(gram)[1][:, :k]
    return paddle.square(vectors.t() @ matrix).sum().astype("float32")


class BSS(Regularizer):
    """Suppress the directions in which the features of a batch vary least.

    Args:
        bss_lambda: weight of the term, 0.001 in the paper.
        bss_k: how many of the smallest singular values are penalised.
    """

    def __init__(self, *, bss_lambda: float = 1e-3, bss_k: int = 1):
        super().__init__()
        validate.not_negative(bss_lambda=bss_lambda)
        validate.count(bss_k=bss_k)
        self.bss_lambda, self.bss_k = bss_lambda, bss_k

    def requirements(self) -> Requirements:
        return Requirements(
            backbone="regularized",
            whole_batch="its term is a singular value of the features of all images",
            terms=("bss",),
        )

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        return {"bss": self.bss_lambda * smallest_singular_values(model.pooled(outputs), self.bss_k)}

"""L2-SP: decay towards the pretrained weights instead of towards zero (Li, Grandvalet, Davoine, arXiv 1802.01483).

    loss = CE + sp_lambda / 2 * sum_backbone ||p - p0||_F^2 + sp_head_lambda / 2 * sum_head ||p||_F^2

p0 are the pretrained weights; sums are over tensors and elements, nothing is averaged.

Differs from the official code: that decays kernels only, not the head's bias either (`sp_bn` False), has no other decay
(`--wd 0 --cls_lambda 0`), sp_lambda 0.1 and sp_head_lambda 0.01. The defaults are those of SMILE's authors in PyTorch,
for whom 1e-3 holds for birds and aircraft (cars: 1e-4) and the optimizer's own decay goes on beside the penalty; they
have no `--cls_lambda` either.
"""

from __future__ import annotations

from collections.abc import Iterator

import paddle
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from models.parameters import backbone_parameters, head_parameters, trainable_parameters
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup


class L2SP(Regularizer):
    """Pull the backbone to where it started.

    Args:
        sp_lambda: strength of the pull on the backbone.
        sp_head_lambda: strength of the pull of the head to zero.
        sp_bn: whether batch normalisation's scale and shift and the biases of the backbone and the head are pulled too.
    """

    def __init__(self, *, sp_lambda: float = 1e-3, sp_head_lambda: float = 0.0, sp_bn: bool = True):
        super().__init__()
        validate.not_negative(sp_lambda=sp_lambda, sp_head_lambda=sp_head_lambda)
        self.sp_lambda, self.sp_head_lambda, self.sp_bn = sp_lambda, sp_head_lambda, sp_bn

    def requirements(self) -> Requirements:
        return Requirements(source=True, backbone="regularized", terms=("sp",))

    def prepare(self, setup: Setup) -> None:
        source = backbone_parameters(setup.source)
        # The source is frozen, so its own tensors serve; in a plain dictionary no checkpoint reaches them.
        self.start = {
            name: source[name]
            for name, tensor in trainable_parameters(setup.model).items()
            if name in source and (self.sp_bn or tensor.ndim > 1)
        }

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        pulls = list(self._pulls(model))
        return {"sp": paddle.add_n([0.5 * strength * paddle.square(gap).sum() for strength, gap in pulls])}

    def _pulls(self, model: nn.Layer) -> Iterator[tuple[float, paddle.Tensor]]:
        """Yield the strength of each pull and the distance of its tensor from where it is pulled to."""
        head = head_parameters(model) if self.sp_head_lambda else {}
        for name, tensor in trainable_parameters(model).items():
            if name in self.start:
                yield self.sp_lambda, tensor - self.start[name]
            elif name in head and (self.sp_bn or tensor.ndim > 1):
                yield self.sp_head_lambda, tensor

"""A network that follows another one by a moving average and is never trained itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import paddle
from paddle import nn

from models.outputs import Outputs
from models.parameters import backbone_parameters, batch_norms, freeze
from utils.precision import Precision, float32


class Frozen:
    """Hold a network out of reach of `train()`, of the optimizer and of the checkpoint."""

    def __init__(self, network: nn.Layer, precision: Precision = float32) -> None:
        self.network, self.precision = freeze(network), precision

    @paddle.no_grad()
    def __call__(self, images: paddle.Tensor) -> Outputs:
        """Return the outputs in eval mode, without gradient."""
        return self.precision.forward(self.network, images)


class MeanTeacher(nn.Layer):
    """A copy of the pretrained network whose backbone follows the student; its head stays.

    Args:
        source: the pretrained network to start as; it is copied.
        bn_stats: whether the running statistics of batch normalisation follow too.
        precision: how it computes.
    """

    def __init__(self, source: nn.Layer, bn_stats: bool = True, precision: Precision = float32) -> None:
        super().__init__()
        self.precision = precision
        self.network = freeze(copy.deepcopy(source))
        self.bn_stats = bn_stats
        self._pairs_of: tuple[int, list] | None = None  # to list all parameters at every step takes longer than to move

    @paddle.no_grad()
    def forward(self, images: paddle.Tensor) -> Outputs:
        """Return the outputs in eval mode, without gradient, whatever `train()` was called on."""
        self.network.eval()
        return self.precision.forward(self.network, images)

    @paddle.no_grad()
    def update(self, student: nn.Layer, decay: float) -> None:
        """Move in place: teacher <- decay * teacher + (1 - decay) * student, all but the head."""
        if self._pairs_of is None or self._pairs_of[0] != id(student):
            self._pairs_of = (id(student), list(self._pairs(student)))
        for mine, theirs in self._pairs_of[1]:
            mine.add_((theirs - mine).scale_(1 - decay))  # on a CPU far faster than lerp_

    def _pairs(self, student: nn.Layer) -> Iterator[tuple[paddle.Tensor, paddle.Tensor]]:
        tensors = dict(student.named_parameters())
        statistics = {f"{norm}.{leaf}" for norm in batch_norms(self.network) for leaf in ("_mean", "_variance")}
        for name, mine in backbone_parameters(self.network).items():
            if self.bn_stats or name not in statistics:
                yield mine, tensors[name]

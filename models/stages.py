"""The ends of the stages of a ResNet, and the tensors that pass there."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import paddle
from paddle import nn
from paddle.vision.models.resnet import BottleneckBlock


class Taps:
    """Record the last input and output of each of `layers`; as a context manager, until the block ends."""

    def __init__(self, layers: list[nn.Layer]) -> None:
        self.kept = [None] * len(layers)
        self.hooks = [
            layer.register_forward_post_hook(functools.partial(self._keep, i)) for i, layer in enumerate(layers)
        ]

    def _keep(self, place: int, layer: nn.Layer, given: tuple, returned: paddle.Tensor) -> None:
        self.kept[place] = (given[0], returned)

    def take(self) -> list[tuple[paddle.Tensor, paddle.Tensor]]:
        """Return the pairs (input, output), one for each layer, and drop them: a graph must not outlive its step."""
        kept, self.kept = self.kept, [None] * len(self.kept)
        return kept

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


@dataclass(frozen=True)
class StageEnd:
    """The last block of a stage, its last convolution and the batch normalisation after it, and the stages after."""

    block: nn.Layer
    conv: nn.Conv2D
    norm: nn.Layer
    rest: list[nn.Layer]

    @property
    def channels(self) -> int:
        """The number of filters of the convolution."""
        return self.conv.weight.shape[0]

    def before_relu(self, given: paddle.Tensor, convolved: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the input of the block's last ReLU: with all filters, and for each channel without its filter.

        Args:
            given: the input of the block.
            convolved: the output of the convolution, [B, C, h, w], as are both results.
        """
        identity = given if self.block.downsample is None else self.block.downsample(given)
        ablated = self.norm(paddle.zeros([1, self.channels, 1, 1]))
        return self.norm(convolved) + identity, ablated + identity


def stage_ends(network: nn.Layer) -> list[StageEnd]:
    """Return the ends of the residual stages; of a network without stages none."""
    stages = [getattr(network, name) for name in network.stage_names]
    ends = []
    for i, stage in enumerate(stages):
        block, last = stage[-1], 3 if isinstance(stage[-1], BottleneckBlock) else 2
        ends.append(StageEnd(block, getattr(block, f"conv{last}"), getattr(block, f"bn{last}"), stages[i + 1 :]))
    return ends

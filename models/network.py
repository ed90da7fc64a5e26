"""The base of every network, and an entry of the registry of architectures."""

from __future__ import annotations

from dataclasses import dataclass

import paddle
from paddle import nn

from models.outputs import Outputs


class Network:
    """Mix into an `nn.Layer` whose forward pass returns `Outputs`.

    Attributes:
        head_name: the name of the classifier in the state dict.
        stage_names: the attributes that hold the residual stages, from fine to coarse; empty for another network.
    """

    head_name: str
    stage_names: tuple[str, ...] = ()

    @property
    def head(self) -> nn.Linear:
        """The classifier, the one part that is new when the network is fine-tuned."""
        layer = self
        for name in self.head_name.split("."):
            layer = getattr(layer, name)
        return layer

    def pooled(self, outputs: Outputs) -> paddle.Tensor:
        """Return the mean of the last map over its pixels, [B, C]: of a ResNet the features themselves."""
        return outputs.features


@dataclass(frozen=True)
class Architecture:
    """A constructor: called with a number of classes, it returns the network.

    Attributes:
        network: a class of networks.
        arguments: of its constructor, besides `num_classes`.
        image_size: side of the images that it was published with, in pixels.
        features: inputs of its head, which bound the classes that a file of weights can have.
    """

    network: type[Network]
    arguments: dict
    image_size: int = 224
    features: int | None = None

    def __call__(self, num_classes: int) -> Network:
        return self.network(**self.arguments, num_classes=num_classes)

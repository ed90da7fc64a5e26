"""The base of every network, and an entry of the registry of architectures."""

from __future__ import annotations

from dataclasses import dataclass, field

import paddle
from paddle import nn

from models.outputs import Outputs

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in units of 1 = white
STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # mean and deviation of images in [-1, 1]


class Network:
    """Mix into an `nn.Layer` whose forward pass returns `Outputs`.

    Attributes:
        head_name: the name of the classifier in the state dict.
        stage_names: the attributes that hold the residual stages, from fine to coarse; empty for another network.
        block_names: the attributes whose children are the blocks, from the images to the head; where there are none,
            the backbone is one part.
        normalises_batches: whether it has batch normalisation.
    """

    head_name: str
    stage_names: tuple[str, ...] = ()
    block_names: tuple[str, ...] = ()
    normalises_batches: bool = True

    @property
    def head(self) -> nn.Linear:
        """The classifier, the one part that is new when the network is fine-tuned."""
        layer = self
        for name in self.head_name.split("."):
            layer = getattr(layer, name)
        return layer

    def pooled(self, outputs: Outputs) -> paddle.Tensor:
        """Return the mean of the last map over its pixels, [B, C]."""
        return outputs.maps[-1].mean(axis=[2, 3])

    def head_map(self, outputs: Outputs) -> paddle.Tensor | None:
        """Return the map whose mean over its pixels the head reads in eval mode, [B, C, H, W]; None without one."""
        return None


class StagedNetwork(Network):
    """A residual network, whose last map feeds the pooling that makes the features."""

    @property
    def block_names(self) -> tuple[str, ...]:
        return self.stage_names

    def stage_outputs(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        """Return the output of each of `stage_names`, the first applied to `x` [B, C, H, W]."""
        maps = []
        for name in self.stage_names:
            x = getattr(self, name)(x)
            maps.append(x)
        return tuple(maps)

    def head_map(self, outputs: Outputs) -> paddle.Tensor:
        """Return the last map, [B, C, H, W]."""
        return outputs.maps[-1]

    def pooled(self, outputs: Outputs) -> paddle.Tensor:
        """Return the features, which are the mean of the last map over its pixels, [B, C]."""
        return outputs.features


@dataclass(frozen=True)
class PretrainedWith:
    """How the images were prepared that published weights were trained with.

    Attributes:
        mean: of each channel, in units of 1 = white.
        std: the deviation of each channel, likewise.
        interpolation: "bilinear" or "bicubic".
    """

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    interpolation: str = "bilinear"


IMAGENET = PretrainedWith()
CROP_SHARE = 224 / 256  # the side of the crop over the side of the resized image


@dataclass(frozen=True)
class Variant:
    """Another project's edition of an architecture, with the same shapes but other settings.

    Attributes:
        arguments: of the constructor, in place of the architecture's.
        pretrained_with: how the images of its weights were prepared.
    """

    arguments: dict
    pretrained_with: PretrainedWith


@dataclass(frozen=True)
class Architecture:
    """A constructor: called with a number of classes, it returns the network.

    Attributes:
        network: a class of networks.
        arguments: of its constructor, besides `num_classes`.
        image_size: side of the images that it was published with, in pixels.
        features: inputs of its head, which bound the classes that a file of weights can have.
        smallest: side of the smallest images that it can process, in pixels.
        pretrained_with: how the images of its published weights were prepared.
        crop_share: the side of the crop over the side of the resized image, where a published file has no other.
        variants: the editions of other projects by name; weights record the one that they belong to.
    """

    network: type[Network]
    arguments: dict
    image_size: int = 224
    features: int | None = None
    smallest: int = 1
    pretrained_with: PretrainedWith = IMAGENET
    crop_share: float = CROP_SHARE
    variants: dict[str, Variant] = field(default_factory=dict)

    def __call__(self, num_classes: int, variant: str = "") -> Network:
        settings = self.variants[variant].arguments if variant else {}
        return self.network(**{**self.arguments, **settings}, num_classes=num_classes)

    def trained_with(self, variant: str = "") -> PretrainedWith:
        """Return how the images were prepared of the weights of `variant`, or of the architecture's own."""
        return self.variants[variant].pretrained_with if variant else self.pretrained_with

"""The networks by name. Each returns `Outputs`, has a `head` and its `head_name`, and keeps its origin's names."""

from __future__ import annotations

from paddle import nn

from models import efficientnet, mobilenet, resnet, resnet_cifar
from models.outputs import Outputs

_FAMILIES = (resnet, resnet_cifar, mobilenet, efficientnet)
ARCHITECTURES = {name: constructor for family in _FAMILIES for name, constructor in family.ARCHITECTURES.items()}
STAGED = (*resnet.ARCHITECTURES, *resnet_cifar.ARCHITECTURES)  # whose residual stages `models.stages` knows
HEAD_NAMES = {name: family.HEAD_NAME for family in _FAMILIES for name in family.ARCHITECTURES}


def build(arch: str, classes: int) -> nn.Layer:
    """Make the network `arch`, a key of `ARCHITECTURES`, with a head for `classes` classes."""
    return ARCHITECTURES[arch](classes)


__all__ = ["ARCHITECTURES", "HEAD_NAMES", "STAGED", "Outputs", "build"]

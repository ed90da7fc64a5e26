"""The networks by name. Each is a `Network`, returns `Outputs` and keeps the state-dict names of its origin."""

from __future__ import annotations

from models import (
    convnext,
    efficientnet,
    efficientnet_lite,
    mobilenet,
    mobilenet_v3,
    resnet,
    resnet_cifar,
    resnet_vd,
    vit,
)
from models.network import Network, PretrainedWith
from models.outputs import Outputs

_FAMILIES = (resnet, resnet_vd, resnet_cifar, mobilenet, mobilenet_v3, efficientnet, efficientnet_lite, convnext, vit)
ARCHITECTURES = {name: architecture for family in _FAMILIES for name, architecture in family.ARCHITECTURES.items()}
STAGED = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.network.stage_names)
HEAD_NAMES = {name: architecture.network.head_name for name, architecture in ARCHITECTURES.items()}


def build(arch: str, num_classes: int, variant: str = "") -> Network:
    """Make the network `arch`, a key of `ARCHITECTURES`, with a head for `num_classes` classes.

    Args:
        arch: the architecture.
        num_classes: outputs of the head.
        variant: the edition that the weights belong to, a key of the architecture's `variants`; "" for its own.
    """
    return ARCHITECTURES[arch](num_classes, variant)


__all__ = ["ARCHITECTURES", "HEAD_NAMES", "STAGED", "Network", "Outputs", "PretrainedWith", "build"]

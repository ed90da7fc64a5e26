"""The networks by name. Each is a `Network`, returns `Outputs` and keeps the state-dict names of its origin."""

from __future__ import annotations

from models import efficientnet, mobilenet, resnet, resnet_cifar
from models.network import Network
from models.outputs import Outputs

_FAMILIES = (resnet, resnet_cifar, mobilenet, efficientnet)
ARCHITECTURES = {name: architecture for family in _FAMILIES for name, architecture in family.ARCHITECTURES.items()}
STAGED = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.network.stage_names)
HEAD_NAMES = {name: architecture.network.head_name for name, architecture in ARCHITECTURES.items()}


def build(arch: str, num_classes: int) -> Network:
    """Make the network `arch`, a key of `ARCHITECTURES`, with a head for `num_classes` classes."""
    return ARCHITECTURES[arch](num_classes)


__all__ = ["ARCHITECTURES", "HEAD_NAMES", "STAGED", "Network", "Outputs", "build"]

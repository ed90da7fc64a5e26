"""The tensors of a network by what they are for. Names are those of the state dict."""

from __future__ import annotations

import paddle
from paddle import nn


def backbone_parameters(network: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return everything but the head: trained and frozen tensors, running statistics included."""
    head = head_parameters(network)
    return {name: tensor for name, tensor in network.named_parameters() if name not in head}


def head_parameters(network: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the tensors of the classifier."""
    return dict(network.head.named_parameters(prefix=network.head_name))


def trainable_parameters(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the tensors that the optimizer updates: no running statistics, nothing frozen."""
    return {name: tensor for name, tensor in layer.named_parameters() if not tensor.stop_gradient}


def batch_norms(network: nn.Layer) -> dict[str, nn.Layer]:
    """Return the layers with running statistics: batch normalisation of every kind."""
    return {name: layer for name, layer in network.named_sublayers() if hasattr(layer, "_variance")}


def moving_statistics(network: nn.Layer) -> list[paddle.Tensor]:
    """Return the running statistics that a forward pass changes in the present mode of the layers."""
    norms = [layer for layer in batch_norms(network).values() if layer.training and not layer._use_global_stats]
    return [tensor for layer in norms for tensor in (layer._mean, layer._variance)]


def freeze_statistics(network: nn.Layer) -> None:
    """Let batch normalisation use its running statistics and keep them, in training mode too; scale and shift train."""
    for layer in batch_norms(network).values():
        layer._use_global_stats = True


def set_momentum(network: nn.Layer, momentum: float) -> None:
    """Set the share of the old running statistics that a training forward pass of batch normalisation keeps."""
    for layer in batch_norms(network).values():
        layer._momentum = momentum


def depths(network: nn.Layer) -> dict[str, int]:
    """Return how far each tensor is from the head, in blocks.

    The head has depth 0, the n blocks of `network.block_names` have 1 (the last one) to n (the first one), what comes
    before them, the stem, has n + 1. What stands between two blocks or between the last one and the head, in the order
    of the state dict, belongs to the block before it.
    """
    starts = [f"{container}.{block}." for container in network.block_names for block in _children(network, container)]
    head, found, reached = head_parameters(network), {}, 0
    for name, _ in network.named_parameters():
        reached = next((i for i, start in enumerate(starts, 1) if name.startswith(start)), reached)
        found[name] = 0 if name in head else len(starts) + 1 - reached
    return found


def _children(network: nn.Layer, path: str) -> list[str]:
    layer = network
    for name in path.split("."):
        layer = getattr(layer, name)
    return [name for name, _ in layer.named_children()]


def freeze(network: nn.Layer) -> nn.Layer:
    """Put `network` in eval mode and stop every gradient into it; return it."""
    network.eval()
    for tensor in network.parameters():
        tensor.stop_gradient = True
    return network


def copy_backbone(source: nn.Layer, model: nn.Layer) -> None:
    """Set everything but the head of `model` to the values of `source`, in place."""
    values = backbone_parameters(source)
    for name, tensor in backbone_parameters(model).items():
        tensor.set_value(values[name])

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

"""FE: feature extraction, a new head on the pretrained network as it is (Donahue et al., DeCAF, arXiv 1310.1531).

    loss = CE(z, y),   z = head(g(x)),   g the pretrained backbone, constant

Differs from the code of SMILE's authors: batch normalisation is in eval mode. There it normalises with the batch and
its running statistics move to the new data, so the features are not the pretrained ones, nor constant. There the
momentum is not Nesterov's either, for this method alone.
"""

from __future__ import annotations

from models.parameters import backbone_parameters, batch_norms
from regularizers.base import Regularizer, Requirements, Setup


class FE(Regularizer):
    """Train the head alone."""

    def requirements(self) -> Requirements:
        return Requirements(source=True, backbone="frozen")

    def prepare(self, setup: Setup) -> None:
        for tensor in backbone_parameters(setup.model).values():
            tensor.stop_gradient = True
        for layer in batch_norms(setup.model).values():  # dropout stays in training mode
            layer.eval()

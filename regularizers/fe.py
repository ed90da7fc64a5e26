"""FE: feature extraction, a new head on the pretrained network as it is (Donahue et al., DeCAF, arXiv 1310.1531).

    loss = CE(z, y),   z = head(g(x)),   g the pretrained backbone, constant

Differs from the code of SMILE's authors: batch normalisation is in eval mode. There it normalises with the batch and
its running statistics move to the new data, so the features are not the pretrained ones, nor constant. There the
momentum is not Nesterov's either, for this method alone.
"""

from __future__ import annotations

from regularizers.base import Regularizer, Requirements, Setup


class FE(Regularizer):
    """Train the head alone."""

    def requirements(self) -> Requirements:
        return Requirements(source=True, backbone="frozen")

    def prepare(self, setup: Setup) -> None:
        for name, tensor in setup.model.named_parameters():
            if not name.startswith(f"{setup.model.head_name}."):
                tensor.stop_gradient = True
        for layer in setup.model.sublayers():
            if hasattr(layer, "_variance"):  # batch normalisation of any kind; dropout stays in training mode
                layer.eval()

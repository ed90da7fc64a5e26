"""Mixed precision: the forward pass in half precision on a GPU, everything a method computes in float32."""

from __future__ import annotations

import sys

import paddle
from paddle import nn

from models.outputs import Outputs

MODES = {"off": None, "bf16": "bfloat16", "fp16": "float16"}


class Precision:
    """How the networks of a run compute.

    Args:
        mode: a key of `MODES`. fp16 scales the loss, so that small gradients survive.
    """

    def __init__(self, mode: str = "off"):
        self.dtype = MODES[mode]
        if self.dtype and paddle.get_device() == "cpu":
            print(f"WARNING: --amp {mode}: PaddlePaddle has none on the CPU; running in float32", file=sys.stderr)
            self.dtype = None
        self.scaler = paddle.amp.GradScaler() if self.dtype == "float16" else None

    def forward(self, network: nn.Layer, images: paddle.Tensor) -> Outputs:
        """Return the outputs of `network` in float32."""
        if not self.dtype:
            return network(images)
        with paddle.amp.auto_cast(dtype=self.dtype):
            logits, features, maps = network(images)
        return Outputs(logits.astype("float32"), features.astype("float32"), tuple(m.astype("float32") for m in maps))

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of `loss`, scaled in fp16, to those in the parameters."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def unscale(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Undo the scaling of the gradients; note whether one of them overflowed."""
        if self.scaler:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Update the parameters; with a scaled loss not when a gradient overflowed."""
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict:
        """Return the state of the scaling."""
        return self.scaler.state_dict() if self.scaler else {}

    def set_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)


float32 = Precision()

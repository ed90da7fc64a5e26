"""Mixed precision: the forward pass in half precision on a GPU, losses and methods in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import paddle

from utils.errors import warn

MODES = {"off": None, "bf16": "bfloat16", "fp16": "float16"}
Outputs = TypeVar("Outputs", bound=tuple)  # a named tuple with logits, features and maps


class Precision:
    """The floating-point format of the forward pass, and the loss scaling that fp16 needs.

    Args:
        mode: a key of `MODES`. fp16 scales the loss so that small gradients do not underflow.
    """

    def __init__(self, mode: str = "off") -> None:
        self.dtype = MODES[mode]
        if self.dtype and paddle.get_device() == "cpu":
            warn(f"--amp {mode}: PaddlePaddle has none on the CPU; running in float32")
            self.dtype = None
        self.scaler = paddle.amp.GradScaler() if self.dtype == "float16" else None

    def forward(self, network: Callable[[paddle.Tensor], Outputs], images: paddle.Tensor) -> Outputs:
        """Return the outputs of `network` in float32."""
        if not self.dtype:
            return network(images)
        with paddle.amp.auto_cast(dtype=self.dtype):
            outputs = network(images)
        logits, features, *maps = (t.astype("float32") for t in (outputs.logits, outputs.features, *outputs.maps))
        return outputs._replace(logits=logits, features=features, maps=tuple(maps))

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of `loss`, scaled in fp16, to those in the parameters."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def unscale(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Divide the gradients by the loss scale; record whether one of them overflowed."""
        if self.scaler:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Update the parameters; in fp16, skip the update if a gradient overflowed."""
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict:
        """Return the state of the loss scaling, empty without it."""
        return self.scaler.state_dict() if self.scaler else {}

    def set_state_dict(self, state: dict) -> None:
        """Restore a state returned by `state_dict`."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)


float32 = Precision()

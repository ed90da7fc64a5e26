"""The optimizer of every run: SGD with Nesterov momentum, one learning-rate drop, coupled weight decay."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from models.parameters import batch_norms, head_parameters, trainable_parameters
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import WeightsError, names
from utils.precision import Precision, float32

SLOT = "velocity_0"  # what Momentum keeps for each parameter


class Optimizer:
    """Momentum over a network and a method, with state under structured names.

        g = gradient + wd * p;   v = 0.9 * v + g;   p = p - lr * (g + 0.9 * v)

    Args:
        model: the network; its head has its own rate and decay.
        regularizer: the method; what it trains counts as a head.
        lr: learning rate of the backbone, divided by 10 from update `lr_drop` on.
        wd: weight decay of everything trained.
        cls_lambda: weight decay of the heads on top of `wd`; the reference's 0.5 * cls_lambda * ||head||^2.
        head_lr_mult: learning rate of the heads, in units of `lr`.
        lr_drop: the 0-based update from which the lower rate holds.
        precision: how the networks compute.
        ranks: the processes of the run.
        accum: micro-batches whose gradients make one update.
    """

    def __init__(
        self,
        model: nn.Layer,
        regularizer: nn.Layer,
        *,
        lr: float,
        wd: float,
        cls_lambda: float,
        head_lr_mult: float,
        lr_drop: int,
        precision: Precision = float32,
        ranks: Ranks = SINGLE_PROCESS,
        accum: int = 1,
    ):
        self.precision, self.ranks, self.accum = precision, ranks, accum
        norms = [layer for layer in batch_norms(model).values() if layer.training]
        self.statistics = [tensor for layer in norms for tensor in (layer._mean, layer._variance)]
        backbone, heads = {}, {f"regularizer.{name}": p for name, p in trainable_parameters(regularizer).items()}
        head = head_parameters(model)
        for name, parameter in trainable_parameters(model).items():
            (heads if name in head else backbone)[name] = parameter
        self.parameters = {**backbone, **heads}
        groups = [
            {"params": list(backbone.values()), "weight_decay": wd},
            {"params": list(heads.values()), "weight_decay": wd + cls_lambda, "learning_rate": head_lr_mult},
        ]
        self.schedule = paddle.optimizer.lr.PiecewiseDecay(boundaries=[lr_drop], values=[lr, lr * 0.1])
        self.momentum = paddle.optimizer.Momentum(
            learning_rate=self.schedule,
            momentum=0.9,
            use_nesterov=True,
            parameters=[group for group in groups if group["params"]],
        )

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of the `loss` of one micro-batch to those in the parameters."""
        self.precision.backward(loss / self.accum if self.accum > 1 else loss)

    def sync_gradients(self) -> None:
        """After the last micro-batch: average gradients and running statistics over the ranks."""
        if self.ranks.count > 1:
            gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
            self.ranks.average(gradients + self.statistics)
        self.precision.unscale(self.momentum)  # only now, so that all ranks see the same overflow

    def step(self) -> None:
        """Update the parameters, clear the gradients, advance the schedule."""
        self.last_lr = self.momentum.get_lr()
        self.precision.step(self.momentum)
        self.momentum.clear_grad()
        self.schedule.step()

    def state_dict(self) -> dict:
        """Return the slots by structured name (`layer1.0.conv1.weight/velocity_0`)."""
        state = self.momentum.state_dict()
        keys = {name: f"{parameter.name}_{SLOT}" for name, parameter in self.parameters.items()}
        return {f"{name}/{SLOT}": state[key] for name, key in keys.items() if key in state}

    def set_state_dict(self, slots: dict, schedule: dict) -> None:
        """Restore what `state_dict` returned, and the schedule's state.

        Raises:
            WeightsError: the slots are not those of the parameters.
        """
        unknown = {name.split("/")[0] for name in slots} - set(self.parameters)
        if unknown:
            raise WeightsError(f"the optimizer state does not fit the network: unknown {names(sorted(unknown))}")
        state = {}
        for name, parameter in self.parameters.items():
            velocity = slots.get(f"{name}/{SLOT}")  # none before the first gradient
            if velocity is None:
                velocity = np.zeros(parameter.shape, dtype="float32")
            state[f"{parameter.name}_{SLOT}"] = paddle.to_tensor(velocity)
        schedule = {name: schedule[name] for name in self.schedule.state_dict()}
        self.momentum.set_state_dict({**state, "LR_Scheduler": schedule})

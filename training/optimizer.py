"""The optimizer of every run: SGD with Nesterov momentum and coupled weight decay, or AdamW."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from checkpoints.entries import POWERS
from models.parameters import depths, head_parameters, moving_statistics, trainable_parameters
from training.schedule import Schedule
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import WeightsError, names
from utils.precision import Precision, float32

BETAS = (0.9, 0.999)
# what each keeps for a parameter, and where that starts; of the shape of the parameter, but for the powers
SLOTS = {
    "sgd": {"velocity_0": 0.0},
    "adamw": {
        "moment1_0": 0.0,
        "moment2_0": 0.0,
        "beta1_pow_acc_0": BETAS[0],
        "beta2_pow_acc_0": BETAS[1],
    },
}


class Optimizer:
    """SGD or AdamW over a network and a method, with state under structured names.

        sgd     g = gradient + wd * p;   v = 0.9 * v + g;   p = p - r * (g + 0.9 * v)
        adamw   m = 0.9 * m + 0.1 * g;   s = 0.999 * s + 0.001 * g^2;   g the gradient, t updates with this one
                p = p - r * wd * p - r * (m / (1 - 0.9^t)) / (sqrt(s / (1 - 0.999^t)) + 1e-8)

    The rate r of a tensor at depth d (`models.parameters.depths`) is lr * layer_decay^d, of the heads, at depth 0,
    lr * head_lr_mult. AdamW is Loshchilov and Hutter's, arXiv 1711.05101, the layer-wise rates are those of Clark et
    al., arXiv 2003.10555, by block.

    Args:
        model: the network; its head has its own rate and decay.
        regularizer: the method; what it trains counts as a head.
        schedule: the rate lr of each update.
        wd: weight decay of everything trained.
        cls_lambda: weight decay of the heads on top of `wd`; the reference's 0.5 * cls_lambda * ||head||^2.
        head_lr_mult: learning rate of the heads, in units of lr.
        kind: a key of `SLOTS`.
        layer_decay: the rate of a layer in units of that of the next one towards the head.
        clip_norm: the largest norm of the gradient, over everything trained together; None for no limit. It is the
            gradient of the loss, averaged over micro-batches and ranks, without weight decay.
        precision: how the networks compute.
        ranks: the processes of the run.
        accum: micro-batches whose gradients make one update.
    """

    def __init__(
        self,
        model: nn.Layer,
        regularizer: nn.Layer,
        schedule: Schedule,
        *,
        wd: float,
        cls_lambda: float,
        head_lr_mult: float,
        kind: str = "sgd",
        layer_decay: float = 1.0,
        clip_norm: float | None = None,
        precision: Precision = float32,
        ranks: Ranks = SINGLE_PROCESS,
        accum: int = 1,
    ):
        self.precision, self.ranks, self.accum = precision, ranks, accum
        self.schedule, self.kind, self.clip_norm = schedule, kind, clip_norm
        self.statistics = moving_statistics(model)
        backbone, heads = {}, {f"regularizer.{name}": p for name, p in trainable_parameters(regularizer).items()}
        head = head_parameters(model)
        for name, parameter in trainable_parameters(model).items():
            (heads if name in head else backbone)[name] = parameter
        self.parameters = {**backbone, **heads}
        groups = [
            *_by_depth(backbone, depths(model), layer_decay, wd),
            {"params": list(heads.values()), "weight_decay": wd + cls_lambda, "learning_rate": head_lr_mult},
        ]
        groups = [group for group in groups if group["params"]]
        if kind == "sgd":
            self.rule = paddle.optimizer.Momentum(schedule, momentum=0.9, use_nesterov=True, parameters=groups)
        else:
            self.rule = paddle.optimizer.AdamW(schedule, *BETAS, parameters=groups)

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of the `loss` of one micro-batch to those in the parameters."""
        self.precision.backward(loss / self.accum if self.accum > 1 else loss)

    def sync_gradients(self) -> None:
        """After the last micro-batch: average gradients and running statistics over the ranks, clip the gradients."""
        if self.ranks.count > 1:
            self.ranks.average(self._gradients() + self.statistics)
        self.precision.unscale(self.rule)  # only now, so that all ranks see the same overflow
        if self.clip_norm is not None:
            clip(self._gradients(), self.clip_norm)

    def _gradients(self) -> list[paddle.Tensor]:
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def step(self) -> None:
        """Update the parameters, clear the gradients, advance the schedule."""
        self.last_lr = self.rule.get_lr()
        self.precision.step(self.rule)
        self.rule.clear_grad()
        self.schedule.step()

    def state_dict(self) -> dict:
        """Return the slots by structured name (`layer1.0.conv1.weight/velocity_0`)."""
        state, found = self.rule.state_dict(), {}
        for name, parameter in self.parameters.items():
            keys = {slot: f"{parameter.name}_{slot}" for slot in SLOTS[self.kind]}
            found.update({f"{name}/{slot}": state[key] for slot, key in keys.items() if key in state})
        return found

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
            for slot, start in SLOTS[self.kind].items():
                value = slots.get(f"{name}/{slot}")  # none before the first gradient
                if value is None:
                    value = np.full([1] if slot in POWERS else parameter.shape, start, dtype="float32")
                else:  # as an uninterrupted run has it: a term that ends leaves zeros, and momentum goes on
                    parameter.grad = paddle.zeros_like(parameter)
                state[f"{parameter.name}_{slot}"] = paddle.to_tensor(value)
        schedule = {name: schedule[name] for name in self.schedule.state_dict()}
        self.rule.set_state_dict({**state, "LR_Scheduler": schedule})


def _by_depth(parameters: dict, depths: dict[str, int], layer_decay: float, wd: float) -> list[dict]:
    """Return the groups of the backbone: one where all layers have one rate, else one for each depth."""
    if layer_decay == 1:
        return [{"params": [*parameters.values()], "weight_decay": wd}]
    groups: dict[int, list] = {}
    for name, parameter in parameters.items():
        groups.setdefault(depths[name], []).append(parameter)
    return [
        {"params": group, "weight_decay": wd, "learning_rate": layer_decay**depth} for depth, group in groups.items()
    ]


@paddle.no_grad()
def clip(gradients: list[paddle.Tensor], norm: float) -> None:
    """Scale `gradients` in place by min(1, norm / ||gradients||), the norm of all of them together."""
    squares = paddle.stack([paddle.square(gradient).sum() for gradient in gradients]).sum()
    factor = (norm / paddle.sqrt(squares)).clip(max=1.0)  # infinite at 0, without waiting for the device
    for gradient in gradients:
        gradient.multiply_(factor)

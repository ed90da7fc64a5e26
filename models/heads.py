"""How a new classifier starts."""

from __future__ import annotations

import math

import numpy as np
from paddle import nn

INITS = ("paddle", "torch", "zero", "probe")


def reset_head(head: nn.Linear, rng: np.random.Generator, init: str) -> None:
    """Redraw weight [in, out] and bias [out] of `head` in place.

    Args:
        head: the classifier.
        rng: where the draw comes from.
        init: "paddle" for U(-sqrt(6 / (in + out)), +) and a bias of 0, the framework's default; "torch" for
            U(-1 / sqrt(in), +) for both, that of the authors' PyTorch code; "zero" for zeros, where the first
            cross-entropy is ln(out) whatever the features; "probe" for zeros too, which a run replaces by a linear
            probe before its first update; a method that redraws the head later gets zeros.
    """
    fan_in, fan_out = head.weight.shape
    if init in ("zero", "probe"):
        for tensor in (head.weight, head.bias):
            tensor.set_value(np.zeros(tensor.shape, "float32"))
        return
    bound = math.sqrt(6 / (fan_in + fan_out)) if init == "paddle" else 1 / math.sqrt(fan_in)
    head.weight.set_value(rng.uniform(-bound, bound, (fan_in, fan_out)).astype("float32"))
    bias = np.zeros(fan_out) if init == "paddle" else rng.uniform(-bound, bound, fan_out)
    head.bias.set_value(bias.astype("float32"))

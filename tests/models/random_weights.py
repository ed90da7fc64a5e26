"""Weights that keep the signal alive through every layer, so that two networks can be compared by what they return."""

from __future__ import annotations

import numpy as np


def random_weights(network, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a float32 state for `network` under its names: nothing is 0 or 1, no two tensors are alike."""
    rng = np.random.default_rng(seed)
    return {name: _draw(name, tensor.shape, rng).astype("float32") for name, tensor in network.state_dict().items()}


def _draw(name, shape, rng):
    if name.endswith("_variance"):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) == 1:
        return rng.normal(1 if name.endswith("weight") else 0, 0.2, shape)
    fan_in = shape[0] if len(shape) == 2 else np.prod(shape[1:])
    return rng.normal(0, fan_in**-0.5, shape)

"""Stateless randomness: a draw depends on the seed, its purpose and the step, never on what was drawn before.

So an interrupted run needs no generator state, two methods with one seed see the same batches and crops,
and nothing depends on the number of workers.
"""

from __future__ import annotations

import numpy as np
import paddle

PURPOSES = ("order", "crop", "mix", "head", "layers", "attention", "relationship", "pairs", "split", "mask", "augment")


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Return the generator of `purpose` at `position` (a step, an epoch, a rank), one of `PURPOSES`."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), *position])


def seed_layers(seed: int, *position: int) -> None:
    """Seed the layers with their own randomness (dropout, drop-connect) for `position`."""
    paddle.seed(int(generator(seed, "layers", *position).integers(2**31)))

"""Stateless randomness: a draw depends on the seed, its purpose and the step, never on earlier draws.

So an interrupted run needs no generator state, two methods with one seed see the same batches and crops,
and nothing depends on the number of workers.
"""

from __future__ import annotations

import numpy as np
import paddle

# part of every result: a number is never changed or given to another purpose
PURPOSES = {
    "order": 0, "crop": 1, "mix": 2, "head": 3, "layers": 4, "attention": 5, "relationship": 6, "pairs": 7,
    "split": 8, "mask": 9, "augment": 10, "balance": 11,
}  # fmt: skip


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Return the generator of `purpose`, a key of `PURPOSES`, at `position` (a step, an epoch, a rank)."""
    return np.random.default_rng([seed, PURPOSES[purpose], *position])


def seed_layers(seed: int, *position: int) -> None:
    """Seed the random layers (dropout, drop-connect) for `position`."""
    paddle.seed(int(generator(seed, "layers", *position).integers(2**31)))

"""Print the SHA-256 of a small computation: equal sums mean that two machines compute the same bits.

python -m tests.probe
"""

import hashlib

from utils import startup  # noqa: F401

# isort: split
import numpy as np
import paddle

from models import build


def probe() -> str:
    """Return the sum of outputs and gradients of a small network."""
    rng = np.random.default_rng(0)
    network = build("resnet8", 3)
    for tensor in network.parameters():
        tensor.set_value(rng.normal(0.5, 0.2, tensor.shape).astype("float32"))
    network.train()
    logits = network(paddle.to_tensor(rng.normal(size=(8, 3, 32, 32)).astype("float32"))).logits
    logits.square().mean().backward()
    value = hashlib.sha256(logits.numpy().tobytes())
    for tensor in network.parameters():
        if not tensor.stop_gradient:
            value.update(tensor.grad.numpy().tobytes())
    return value.hexdigest()


if __name__ == "__main__":
    print(probe())

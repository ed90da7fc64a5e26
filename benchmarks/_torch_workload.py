"""The work of `workload.py` in plain PyTorch, float32, with torchvision's networks; `peers.py` starts it.

It imports nothing of this project, so that PaddlePaddle is not in the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch.nn import functional as F

WARM_UP = 2


def main() -> None:
    """Do the work and write what it took as JSON; of several ranks the first one writes."""
    parser = argparse.ArgumentParser()
    for name in ("work", "model_arch", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("image_size", "batch_size", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--classes", type=int, default=200)
    options = parser.parse_args()
    torch.manual_seed(0)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    images = torch.randn(options.batch_size // ranks, 3, options.image_size, options.image_size)
    network = getattr(torchvision.models, options.model_arch)(num_classes=options.classes)
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
        network = torch.nn.parallel.DistributedDataParallel(network)
    step = training(network, images, options.classes) if options.work == "training" else evaluation(network, images)
    taken = []
    for _ in range(WARM_UP + options.steps):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    if os.environ.get("RANK", "0") == "0":
        result = {"images_per_second": options.batch_size / statistics.median(taken[WARM_UP:]), "seconds": taken}
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump({**result, "version": torch.__version__}, file)
    if ranks > 1:
        torch.distributed.destroy_process_group()


def training(network: torch.nn.Module, images: torch.Tensor, classes: int) -> Callable[[], None]:
    """Return a function that makes one update."""
    labels = torch.arange(len(images)) % classes
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    network.train()

    def step() -> None:
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def evaluation(network: torch.nn.Module, images: torch.Tensor) -> Callable[[], np.ndarray]:
    """Return a function that computes the logits of one batch."""
    network.eval()
    return torch.inference_mode()(lambda: network(images).numpy())


if __name__ == "__main__":
    main()

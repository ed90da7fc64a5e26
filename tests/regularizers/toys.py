"""A small student, its source and a batch, for tests of methods."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from datasets.batch import Batch
from models import build
from models.parameters import copy_backbone, freeze
from regularizers.base import Setup
from training.meter import Meter
from training.optimizer import Optimizer
from training.schedule import Schedule
from training.step import train_step


@dataclass
class ToyImages:
    """Clean training images in memory."""

    images: np.ndarray
    labels: np.ndarray
    class_names: list

    def __len__(self):
        return len(self.labels)

    def batches(self, batch_size):
        """Yield images and their index in order."""
        for start in range(0, len(self), batch_size):
            index = np.arange(start, min(start + batch_size, len(self)))
            yield paddle.to_tensor(self.images[index]), index


def toy_images(count=24, classes=4, side=16, seed=0) -> ToyImages:
    """Return random images with labels 0, 1, ... in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return ToyImages(
        rng.normal(size=(count, 3, side, side)).astype("float32"), labels, [f"c{i}" for i in range(classes)]
    )


def toy_setup(
    tmp_path=Path("."), classes=4, source_classes=10, arch="resnet8", steps=20, seed=0, side=16, **images
) -> Setup:
    """Return a student with a pretrained backbone, its source, and images."""
    paddle.seed(7)
    source = build(arch, source_classes)
    source.train()
    for _ in range(3):  # statistics that are not 0 and 1
        source(paddle.randn([8, 3, side, side]) * 2 + 0.5)
    freeze(source)
    model = build(arch, classes)
    copy_backbone(source, model)
    model.train()
    return Setup(
        model=model,
        source=source,
        train=toy_images(classes=classes, seed=seed, side=side, **images),
        total_steps=steps,
        batch_size=8,
        seed=seed,
        head_init="paddle",
        cache_dir=Path(tmp_path),
        fingerprint="0123456789abcdef",
    )


def toy_batch(setup: Setup, size=8, seed=0) -> Batch:
    """Return a clean batch of `size` training images."""
    index = np.random.default_rng(seed).permutation(len(setup.train))[:size]
    targets = np.eye(len(setup.train.class_names), dtype="float32")[setup.train.labels[index]]
    images = paddle.to_tensor(setup.train.images[index])
    return Batch(images=images, targets=paddle.to_tensor(targets), index=paddle.to_tensor(index))


def optimizer_of(setup: Setup, method, lr=0.05) -> Optimizer:
    """Return the optimizer of a run; the rate drops after step 9."""
    return Optimizer(setup.model, method, Schedule(lr, 10), wd=1e-4, cls_lambda=1e-4, head_lr_mult=1.0)


def train(setup: Setup, method, steps, optimizer=None, first=0):
    """Run the training loop on random batches; return the terms of the last step."""
    optimizer = optimizer or optimizer_of(setup, method)
    for step in range(first, first + steps):
        meter = Meter()
        train_step(setup.model, method, optimizer, meter, toy_batch(setup, seed=step), step)
    (terms,) = meter.state()
    return {name: value for name, value in terms.items() if name not in ("loss", "hits")}


def arrays(layer) -> dict[str, np.ndarray]:
    """Return a copy of every tensor of `layer`, running statistics included."""
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def same(first: dict, second: dict) -> bool:
    """Return whether two results of `arrays` are equal bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def frozen_copy(network):
    """Return a copy of `network` in eval mode."""
    return freeze(copy.deepcopy(network))

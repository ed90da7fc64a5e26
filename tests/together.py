"""Run finetune.py's main for several methods in this process, one rank of a run or the whole of it.

python -m tests.together {plain,resnet8} FOLDER SOURCE NAME... [and {plain,resnet8} FOLDER SOURCE NAME...]

"plain" has no batch normalisation, so several ranks must compute what one process does. Each rank leaves a digest of
the network and of the method's state beside the run's files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys

from utils import startup

startup.configure()

import paddle
import paddle.nn.functional as F
from paddle import nn

import finetune
import models
import regularizers
from models.network import Architecture
from models.outputs import Outputs
from tests.interrupted import draw_nothing
from tests.scripts import tiny
from training.step import train_step

RESNET8 = models.ARCHITECTURES["resnet8"]
SHORT = {
    "alpha": 0.0,  # mixing pairs each rank's images otherwise than one process would
    "clean_tail": 2,
    "reg_lambda": 1.0,
    "delta_lambda": 1.0,
    "attention": "uniform",
    "self_label": True,
    "label_threshold": 0.4,
    "correct_epoch": 1,
    "reweight_epoch": 1,
}


class Plain(models.Network, nn.Layer):
    """Two convolutions and a head, nothing that depends on the other images of a batch."""

    head_name = "fc"

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2D(3, 8, 3, stride=2), nn.Conv2D(8, 16, 3, stride=2)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, images):
        coarse = F.relu(self.conv1(images))
        fine = F.relu(self.conv2(coarse))
        features = fine.mean(axis=[2, 3])
        return Outputs(self.fc(features), features, (coarse, fine))


def digest(*layers) -> str:
    """Return the sha256 of everything that a checkpoint would hold of `layers`."""
    value = hashlib.sha256()
    for layer in layers:
        for name, tensor in layer.state_dict().items():
            value.update(name.encode() + tensor.numpy().tobytes())
    return value.hexdigest()


def noting(base, model, regularizer, optimizer, *more):
    """Make an update and write the digest of what it led to into a file of this rank."""
    batch = train_step(model, regularizer, optimizer, *more)
    with open(f"{base}.{optimizer.ranks.rank}.sha256", "w") as file:
        file.write(digest(model, regularizer))
    return batch


def main(network: str, folder: str, source: str, *names: str) -> None:
    """Train each of `names` for 6 steps, every one of them logged and scored; then what follows an "and"."""
    if "and" in names:
        main(network, folder, source, *names[: names.index("and")])
        main(*names[names.index("and") + 1 :])
        return
    draw_nothing()
    models.ARCHITECTURES["resnet8"] = Architecture(Plain, {}) if network == "plain" else RESNET8
    if not os.path.exists(source):
        paddle.seed(0)
        paddle.save(models.build("resnet8", 5).state_dict(), source)
    for name in names:
        own = regularizers.arguments(name)
        flags = [word for key, value in SHORT.items() if key in own for word in (f"--{key}", value)]
        places = ["--save", folder, "--log_dir", f"{folder}/curves", "--cache_dir", f"{folder}/cache"]
        often = ["--eval_frequency", 1, "--print_frequency", 1, "--pretrained", source]
        finetune.train_step = functools.partial(noting, f"{folder}/dataset_{name}")
        start = ["--head_init", "probe"] if name == "l2" else []
        finetune.main(tiny("--regularizer", name, *flags, *often, *places, *start))


if __name__ == "__main__":
    main(*sys.argv[1:])

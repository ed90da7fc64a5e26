"""A network that does not change, as evaluation runs it beside Paddle Inference with oneDNN, and how far they agree.

python benchmarks/frozen.py --json frozen.json

Random weights and images. `ready` is what exporting and loading a network takes, once for each set of weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import os
import time
from functools import partial

import numpy as np
import paddle

from benchmarks import in_turns, machine_line, seconds, show, write_json
from benchmarks.steps import random_images, random_source
from evaluation.compiled import Compiled
from evaluation.scores import eval_mode
from models import ARCHITECTURES
from utils import errors
from utils.commandline import Parser, number

NETWORKS = ["resnet50", "resnet18", "mobilenet_v2", "efficientnet_lite0"]
TARGET, TOLERANCE = 1.3, 1e-5  # times as many images a second, at least; difference over the largest logit, at most


def main(argv: list[str] | None = None) -> None:
    """Measure every network both ways in turns; print the medians, their ratio, the difference and the preparation."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument(
        "--networks", nargs="+", choices=tuple(ARCHITECTURES), default=NETWORKS, metavar="ARCH", help=" "
    )
    parser.add_argument("--image_size", type=count, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=count, default=8, help="images in a forward pass")
    parser.add_argument("--repeats", type=count, default=5, help="forward passes of each kind")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    paddle.set_device("cpu")
    images = random_images(options.batch_size, options.image_size)
    rows, results = [], {}
    for arch in options.networks:
        result = results[arch] = measure(random_source(arch), images, options.repeats)
        rates = {name: options.batch_size / float(np.median(taken)) for name, taken in result["seconds"].items()}
        ratio = rates["Inference"] / rates["as it is"]
        rows.append((arch, f"{rates['as it is']:.2f}", f"{rates['Inference']:.2f}", ratio, TARGET,
                     f"{result['difference']:.1e}", f"{result['ready']:.1f}"))  # fmt: skip
    print(f"{machine_line()}, {os.environ['OMP_NUM_THREADS']} threads")
    show(("network", "images/s", "Inference", "ratio", "at least", "difference", "ready in s"), rows)
    print(f"differences over the largest logit; at most {TOLERANCE:g} wanted")
    write_json(options.json, options, {"networks": results})


def measure(network: paddle.nn.Layer, images: paddle.Tensor, repeats: int) -> dict:
    """Return the seconds of each forward pass both ways, the difference, and the seconds of the preparation."""
    with eval_mode(network), paddle.no_grad():
        expected = network(images).logits.numpy()
        began = time.perf_counter()
        compiled = Compiled(network, images.shape[-1])
        ready = time.perf_counter() - began
        actual = compiled(images).logits.numpy()
        runs = {"as it is": network, "Inference": compiled}
        work = {name: partial(seconds, lambda run=run: run(images).logits.numpy()) for name, run in runs.items()}
        taken = in_turns(work, repeats)
    difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
    return {"seconds": taken, "difference": difference, "ready": ready}


if __name__ == "__main__":
    errors.run(main)

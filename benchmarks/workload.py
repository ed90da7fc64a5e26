"""Images per second of one piece of work, for which `peers.py` and `cpu_path.py` start a process.

The number of threads and what else is in the environment hold for a whole process. Training is `train_step` of plain
fine-tuning, evaluation is `predict`; one random batch again and again, so that loading images does not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
import paddle

from benchmarks import seconds
from benchmarks.steps import SEED, SOURCE_CLASSES, Run, random_images
from evaluation.scores import predict
from models import build
from utils import errors
from utils.commandline import Parser, number
from utils.distributed import join
from utils.files import write_text
from utils.processor import SETTING
from utils.rng import seed_layers

ROOT = Path(__file__).resolve().parent
OURS = ROOT / "workload.py"
WARM_UP = 2  # steps that do not count; the loss of the second is that after one update


class OneBatch:
    """The same batch again and again, as a set of images to score.

    Args:
        images: of the batch, [B, 3, S, S].
        count: of batches.
        classes: outputs of the network.
    """

    def __init__(self, images: paddle.Tensor, count: int, classes: int) -> None:
        self.images, self.count = images, count
        self.class_names = [str(label) for label in range(classes)]

    def __len__(self) -> int:
        return self.count * len(self.images)

    def batches(self, batch_size: int, shard: slice) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
        """Yield the batch so many times."""
        for _ in range(self.count):
            yield self.images, np.arange(batch_size)


def main(argv: list[str] | None = None) -> None:
    """Do the work and write what it took as JSON; of several ranks the first one writes."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    paddle.set_device("cpu")
    seed_layers(SEED)
    taken, loss = (training if options.work == "training" else evaluation)(options)
    if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
        result = {"images_per_second": options.batch_size / float(np.median(taken)), "seconds": taken, "loss": loss}
        write_text(options.out, json.dumps({**result, "version": paddle.__version__}))


def parser() -> Parser:
    """Return the command line of this script and of `_torch_workload.py`."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--work", choices=("training", "evaluation"), required=True)
    parser.add_argument("--model_arch", required=True)
    parser.add_argument("--image_size", type=count, required=True)
    parser.add_argument("--batch_size", type=count, required=True, help="images in a step, over all ranks")
    parser.add_argument("--steps", type=count, required=True, help="that are measured")
    parser.add_argument("--classes", type=count, default=200)
    parser.add_argument("--out", required=True, metavar="FILE")
    return parser


def training(options: argparse.Namespace) -> tuple[list[float], float]:
    """Return the seconds of each step and the loss after one update."""
    ranks = join()
    shard = ranks.shard(options.batch_size)
    images = random_images(options.batch_size, options.image_size)[shard]
    with tempfile.TemporaryDirectory() as scratch:
        source = build(options.model_arch, SOURCE_CLASSES)
        share = argparse.Namespace(**{**vars(options), "batch_size": len(images)})
        run = Run("l2", source, images, share, Path(scratch), ranks)
    for _ in range(WARM_UP):
        run.step()
        loss = run.meter.means()[0]["loss"]
    ranks.barrier()
    return [seconds(run.step) for _ in range(options.steps)], loss


def evaluation(options: argparse.Namespace) -> tuple[list[float], None]:
    """Return the seconds of scoring each batch, all of one pass the same, and no loss."""
    network = build(options.model_arch, options.classes)
    images = random_images(options.batch_size, options.image_size)

    def score(count: int) -> None:
        predict(network, OneBatch(images, count, options.classes), options.batch_size)

    score(WARM_UP)
    return [seconds(lambda: score(options.steps)) / options.steps], None


def measure(script: Path, options: dict[str, object], threads: int, ranks: int = 1, **environment: str) -> dict:
    """Run `script` in a fresh process, or in one for each rank, and return what it wrote.

    Args:
        script: this one, or one with its command line.
        options: of the command line.
        threads: of each process.
        ranks: how many processes.
        environment: on top of this process's, of which PyTorch does not get the setting for PaddlePaddle's MKL.

    Raises:
        Failure: it failed; the message has the end of its output.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out.json")
        words = [str(script), *(f"--{name}={value}" for name, value in {**options, "out": out}.items())]
        if ranks > 1:
            launcher = (
                ["paddle.distributed.launch", "--log_dir", scratch] if script == OURS else ["torch.distributed.run"]
            )
            words = ["-m", *launcher, "--nproc_per_node", str(ranks), *words]
        inherited = {name: value for name, value in os.environ.items() if name != SETTING or script == OURS}
        done = subprocess.run(
            [sys.executable, *words],
            env={**inherited, "OMP_NUM_THREADS": str(threads), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise errors.Failure(f"{' '.join(words)} failed: {done.stdout[-2000:]}")
        return json.loads(out.read_text())


if __name__ == "__main__":
    errors.run(main)

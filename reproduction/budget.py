"""How long runs would take: the parts of one, timed on this device.

As a script it times one network and prints JSON: a process of its own, which keeps no memory of a GPU from the runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import paddle

from datasets.folder import scan
from evaluation.scores import eval_mode
from models import build
from regularizers import Regularizer
from regularizers.losses import cross_entropy
from reproduction.runs import Run
from training.optimizer import Optimizer
from utils import device, errors
from utils.commandline import Parser, number

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ("model_arch", "image_size", "batch_size", "batch_size_eval")  # the options that are timed
CLASSES = 200
ENOUGH, MOST = 3.0, 20  # seconds and repetitions after which no more is timed
AT_ONCE_ON_CPU = 8  # images that are timed together there, where twice as many take twice as long


@dataclass(frozen=True)
class Times:
    """What the parts of a run take, in seconds, and what a run leaves on the disk.

    Attributes:
        step: one update of plain fine-tuning, without its data.
        image: scoring one image.
        start: starting a process and building the network.
        megabytes: of the two checkpoints, weights and momentum.
    """

    step: float
    image: float
    start: float
    megabytes: float

    def run(self, options, images: int, scores: int) -> float:
        """Return the seconds of a run with `options`, `images` to be scored, and `scores` of them by `test.py`."""
        evaluations = -(-options.max_iters // options.eval_frequency)
        scoring = (evaluations + scores) * images * self.image
        return options.max_iters * self.step + scoring + (1 + scores) * self.start


def estimate(runs: list[Run], finished: list[Run], gpu: int) -> tuple[dict[str, float], float, str]:
    """Return the seconds that each of `runs` may take by name, the megabytes they leave, and what that is based on.

    Args:
        runs: those to be made.
        finished: those that are there; where a network is among theirs, it need not be timed.
        gpu: the device to time on.
    """
    known = {}
    for run in finished:
        summary = run.summary()
        known.setdefault(_kind(summary["options"]), []).append(summary["seconds"])
    seconds, timed, size = {}, {}, 0.0
    for run in runs:
        options = run.parsed()
        network = tuple(getattr(options, name) for name in NETWORK)
        if _kind(vars(options)) in known:
            times = known[_kind(vars(options))]
            seconds[run.name] = sum(times) / len(times)
            continue
        if network not in timed:
            timed[network] = measure(options, gpu)
        if timed[network] is not None:
            images = round(_count(run.folder("val")) * (options.val_split or 1))
            seconds[run.name] = timed[network].run(options, images, len(run.recipe.scores))
            size += timed[network].megabytes
    basis = [f"{len(finished)} finished runs"] if known else []
    basis += ["a few timed updates of plain fine-tuning; a method with a second network takes longer"] if timed else []
    return seconds, size, " and ".join(basis)


def _kind(options: dict) -> tuple:
    return tuple(options[name] for name in (*NETWORK, "max_iters", "eval_frequency"))


@cache
def _count(folder: str) -> int:
    return len(scan(folder))


def measure(options, gpu: int) -> Times | None:
    """Time the network of `options` on device `gpu` in another process; None when that fails."""
    flags = [word for name in NETWORK for word in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, "-m", "reproduction.budget", *flags, "--gpu", str(gpu)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        return None
    answer = json.loads(done.stdout.splitlines()[-1])
    answer["start"] = time.perf_counter() - began - answer["start"]  # without the timing itself
    return Times(**answer)


def main(argv: list[str] | None = None) -> None:
    """Time one network and print the times."""
    parser = Parser(prog="python -m reproduction.budget", description="Time an update and an evaluation of a network.")
    parser.add_argument("--model_arch", required=True)
    for name in NETWORK[1:]:
        parser.add_argument(f"--{name}", type=number(int, 1), required=True)
    parser.add_argument("--gpu", type=number(int, -1), default=0)
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    device.select(options.gpu)
    print(json.dumps(asdict(time_network(options))))


def time_network(options) -> Times:
    """Return the times of a network; `start` is what the timing took."""
    most = AT_ONCE_ON_CPU if paddle.get_device() == "cpu" else options.batch_size + options.batch_size_eval
    count, count_eval = min(options.batch_size, most), min(options.batch_size_eval, most)
    network = build(options.model_arch, CLASSES)
    optimizer = Optimizer(network, Regularizer(), lr=0.01, wd=1e-4, cls_lambda=0.0, head_lr_mult=1.0, lr_drop=1)
    targets = paddle.full([count, CLASSES], 1 / CLASSES)
    images = paddle.zeros([max(count, count_eval), 3, options.image_size, options.image_size])

    def update():
        optimizer.backward(cross_entropy(network(images[:count]).logits, targets))
        optimizer.sync_gradients()
        optimizer.step()
        return network.head.weight

    @paddle.no_grad()
    def score():
        return network(images[:count_eval]).logits

    began = time.perf_counter()
    step = _seconds(update) * options.batch_size / count
    with eval_mode(network):
        image = _seconds(score) / count_eval
    weights = sum(tensor.size for tensor in network.parameters()) * 4 / 1e6
    return Times(step, image, time.perf_counter() - began, 4 * weights)


def _seconds(work: Callable[[], paddle.Tensor]) -> float:
    """Return the mean seconds of `work`, after a first time that prepares what the later ones need."""
    work().numpy()  # a GPU is done with it only when its result is read
    began, count = time.perf_counter(), 0
    while count < MOST and (count == 0 or time.perf_counter() - began < ENOUGH):
        last = work()
        count += 1
    last.numpy()
    return (time.perf_counter() - began) / count


def clock(seconds: float) -> str:
    """Return a duration for a person: seconds, minutes, hours or days."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size * 1.5:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


if __name__ == "__main__":
    errors.run(main)

"""Estimates of how long runs take, from finished runs or from a few timed updates."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import timeit
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import paddle

from datasets.batch import Batch
from datasets.folder import scan
from evaluation.scores import eval_mode
from models import build
from regularizers import Regularizer
from reproduction.runs import Run
from training.meter import Meter
from training.optimizer import Optimizer
from training.options import Options
from training.schedule import Schedule
from training.step import train_step
from utils import device, project

NETWORK = ("model_arch", "image_size", "batch_size", "batch_size_eval")  # the options that a timing depends on
NUM_CLASSES = 200
MAX_IMAGES_ON_CPU = 8  # timed at once; there, twice as many take twice as long
# a separate process, so that it leaves no memory of the GPU occupied
_TIMING = (
    f"from {project.PREFIX}utils import startup; startup.configure(); "
    f"from {project.PREFIX}reproduction import budget; budget.print_times()"
)


@dataclass(frozen=True)
class Times:
    """Durations of the parts of a run in seconds, and its size on the disk.

    Attributes:
        step: one update of plain fine-tuning, without loading its images.
        image: scoring one image.
        start: starting a process and building the network.
        megabytes: of the two checkpoints, weights and momentum.
    """

    step: float
    image: float
    start: float
    megabytes: float

    def run(self, options: Options, images: int, scores: int) -> float:
        """Return the seconds of a run with `options` that scores `images`, and of `scores` calls of `test.py`."""
        evaluations = -(-options.max_iters // options.eval_frequency)
        scoring = (evaluations + scores) * images * self.image
        return options.max_iters * self.step + scoring + (1 + scores) * self.start


def estimate(runs: list[Run], finished: list[Run], gpu: int | None) -> tuple[dict[str, float], float, str]:
    """Estimate the seconds of each of `runs` by name, the megabytes of their checkpoints, and name the basis of that.

    Args:
        runs: runs to be made; one whose network could not be timed is absent from the result.
        finished: runs whose duration is known; a run like one of them is not timed.
        gpu: device to time on; None times nothing.
    """
    known = defaultdict(list)
    for run in finished:
        known[_kind(run, run.summary()["options"])].append(run.seconds())
    seconds, timed, megabytes = {}, {}, 0.0
    for run in runs:
        options = run.parsed()
        kind, trained = _kind(run, vars(options)), len(run.files(".json"))
        if kind in known:
            seconds[run.name] = statistics.fmean(known[kind])
            continue
        network = tuple(getattr(options, name) for name in NETWORK)
        if network not in timed:
            timed[network] = None if gpu is None else measure(*network, gpu)
        times = timed[network]
        if times is not None:
            images = round(_count(run.folder("val")) * (options.val_split or 1))
            seconds[run.name] = trained * times.run(options, images / max(1, run.folds), len(run.recipe.scores))
            megabytes += trained * times.megabytes
    basis = [f"{len(finished)} finished runs"] if known else []
    if any(timed.values()):
        basis.append("a few timed updates of plain fine-tuning; a method with a second network takes longer")
    return seconds, megabytes, " and ".join(basis)


def _kind(run: Run, options: dict) -> tuple:
    return run.folds, *(options[name] for name in (*NETWORK, "max_iters", "eval_frequency"))


@cache
def _count(folder: str) -> int:
    return len(scan(folder, empty_classes=True))


def measure(arch: str, image_size: int, batch_size: int, batch_size_eval: int, gpu: int) -> Times | None:
    """Time a network on device `gpu` in a separate process; return None if that fails."""
    words = [arch, *map(str, (image_size, batch_size, batch_size_eval, gpu))]
    began = time.perf_counter()
    timing = [sys.executable, "-c", _TIMING, *words]
    done = subprocess.run(timing, cwd=project.SEARCHED, capture_output=True, encoding="utf-8")
    if done.returncode:
        return None
    answer = json.loads(done.stdout.splitlines()[-1])
    answer["start"] = time.perf_counter() - began - answer["start"]  # without the timing itself
    return Times(**answer)


def print_times() -> None:
    """Time the network on the command line, in the order of the arguments of `measure`; print the times as JSON."""
    arch, *numbers = sys.argv[1:]
    *sizes, gpu = map(int, numbers)
    device.select(gpu)
    print(json.dumps(asdict(time_network(arch, *sizes))))


def time_network(arch: str, image_size: int, batch_size: int, batch_size_eval: int) -> Times:
    """Return the times of a network; `start` is the duration of the timing itself."""
    most = MAX_IMAGES_ON_CPU if paddle.get_device() == "cpu" else batch_size + batch_size_eval
    count, count_eval = min(batch_size, most), min(batch_size_eval, most)
    network = build(arch, NUM_CLASSES)
    plain = Regularizer()
    optimizer = Optimizer(network, plain, Schedule(0.01, 1), wd=1e-4, cls_lambda=0.0, head_lr_mult=1.0)
    images = paddle.zeros([max(count, count_eval), 3, image_size, image_size])
    batch = Batch(images[:count], paddle.full([count, NUM_CLASSES], 1 / NUM_CLASSES), paddle.arange(count))

    def update() -> None:
        train_step(network, plain, optimizer, Meter(), batch, 0)
        network.head.weight.numpy()  # waits for the GPU

    @paddle.no_grad()
    def score() -> None:
        network(images[:count_eval]).logits.numpy()

    began = time.perf_counter()
    step = _seconds(update) * batch_size / count
    with eval_mode(network):
        image = _seconds(score) / count_eval
    weights = sum(tensor.size for tensor in network.parameters()) * 4 / 1e6
    return Times(step, image, time.perf_counter() - began, 4 * weights)


def _seconds(work: Callable[[], object]) -> float:
    """Return the mean seconds of `work` after a first call that is not timed."""
    work()
    repeats, seconds = timeit.Timer(work).autorange()
    return seconds / repeats

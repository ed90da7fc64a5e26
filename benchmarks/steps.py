"""Time of a training step of every method, over that of plain fine-tuning and over the least it can take.

python benchmarks/steps.py --model_arch resnet50 --json steps.json

The floor of a method is the L2 step and one eval forward of the batch for each that the method needs, the source's or
the teacher's; of feature extraction, which trains the head alone, it is an eval forward and no L2 step. Everything is
measured in turns, on the CPU, with random weights and images: they do not change the time. Every method's network is
kept, so 11 of ResNet-50 take about 8 GB.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import paddle

import regularizers
from benchmarks import in_turns, seconds, show, write_json
from datasets.batch import Batch
from datasets.loader import normalise
from datasets.preprocess import Preprocess
from models import ARCHITECTURES, build
from models.parameters import copy_backbone
from models.stages import stage_ends
from regularizers.attention import batch_increases, fit_head
from regularizers.teacher import Frozen
from training.meter import Meter
from training.optimizer import Optimizer
from training.schedule import Schedule
from training.step import train_step
from utils import errors
from utils.commandline import Parser, number
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.rng import seed_layers

SEED = 0
SOURCE_CLASSES = 1000
TOTAL_STEPS = 9000  # of the run whose first steps are measured
BASELINE, FORWARD = "l2", "eval forward"
# the floor: L2 steps and eval forwards; a method that is not here adds neither
FLOORS = {"fe": (0, 1), "delta": (1, 1), "smile": (1, 1)}
# the most a step may take, in floors
TARGETS = {"mixup": 1.03, "cutmix": 1.03, "rifle": 1.03, "bss": 1.03, "l2sp": 1.06, "regsl": 1.06}
TARGET = 1.05
ATTENTION_IMAGES = 64
ATTENTION_TARGET = 3.0  # in plain forwards: two more than one


class CleanImages:
    """One small image of each class: all that methods look at before the first step, and it does not count."""

    def __init__(self, classes: int) -> None:
        self.labels = np.arange(classes)
        self.class_names = [f"class {label}" for label in self.labels]

    def batches(self, batch_size: int) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
        """Yield images and their positions in order."""
        for index in np.array_split(self.labels, -(-len(self.labels) // batch_size)):
            yield random_images(len(index), 32), index


def main(argv: list[str] | None = None) -> None:
    """Measure every method in turns, print the medians and their ratios."""
    options = _options(sys.argv[1:] if argv is None else argv)
    paddle.set_device("cpu")
    source = random_source(options.model_arch)
    images = random_images(options.batch_size, options.image_size)
    frozen = Frozen(source)
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: Run(name, source, images, options, Path(scratch)) for name in options.methods}
    work: dict[str, Callable] = {name: lambda run=run: seconds(run.step) for name, run in runs.items()}
    times = in_turns({**work, FORWARD: lambda: seconds(lambda: frozen(images))}, options.repeats)
    for run in runs.values():
        run.meter.means()  # refuses a loss that is not finite
    results = steps_report(times)
    if options.attention:
        results["attention"] = attention(source, options)
    write_json(options.json, options, results)


def _options(argv: list[str]) -> argparse.Namespace:
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--model_arch", choices=tuple(ARCHITECTURES), default="resnet18", metavar="ARCH", help=" ")
    parser.add_argument("--image_size", type=count, default=224, help="side of the images in pixels")
    parser.add_argument("--batch_size", type=count, default=16, help="images in a step")
    parser.add_argument("--classes", type=count, default=200, help="outputs of the head")
    parser.add_argument("--repeats", type=count, default=9, help="turns that are measured")
    parser.add_argument("--methods", default=",".join(regularizers.REGULARIZERS), help="which, besides l2")
    parser.add_argument("--attention", action="store_true", help="measure DELTA's channel attention too, for a ResNet")
    parser.add_argument("--json", metavar="FILE", help="where every measurement goes")
    options = parser.parse_args(argv)
    options.methods = list(dict.fromkeys([BASELINE, *options.methods.split(",")]))
    for name in options.methods:
        regularizers.split(name)  # an unknown one is refused
    return options


def random_images(count: int, size: int) -> paddle.Tensor:
    """Return noise, normalised, float32 [count, 3, size, size]."""
    crops = np.random.default_rng(SEED).integers(0, 256, (count, size, size, 3), dtype="uint8")
    return normalise(crops, Preprocess())


def random_source(arch: str) -> paddle.nn.Layer:
    """Return a network with random weights and running statistics of noise, so that no activation overflows."""
    seed_layers(SEED)
    network = build(arch, SOURCE_CLASSES)
    network.train()
    with paddle.no_grad():
        for _ in range(20):
            network(random_images(8, 64))
    return Frozen(network).network


class Run:
    """A run of one method, as `finetune.py` builds and trains it, on one batch.

    Args:
        name: the method.
        source: the frozen pretrained network.
        images: of the batch.
        options: of the command line.
        cache_dir: for what the method keeps.
        ranks: the processes of the run; `images` and the options are this one's.
    """

    def __init__(
        self,
        name: str,
        source: paddle.nn.Layer,
        images: paddle.Tensor,
        options: argparse.Namespace,
        cache_dir: Path,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.model = build(options.model_arch, options.classes)
        copy_backbone(source, self.model)
        self.model.train()
        given = {"attention": "uniform"} if "attention" in regularizers.arguments(name) else {}
        self.regularizer = regularizers.create(name, **given)
        train = CleanImages(options.classes)
        self.regularizer.prepare(
            regularizers.Setup(
                model=self.model,
                source=source,
                train=train,
                total_steps=TOTAL_STEPS,
                batch_size=options.batch_size,
                seed=SEED,
                head_init="paddle",
                cache_dir=cache_dir,
                fingerprint="benchmark",
                ranks=ranks,
            )
        )
        self.optimizer = Optimizer(
            self.model,
            self.regularizer,
            Schedule(1e-4, TOTAL_STEPS),
            wd=1e-4,
            cls_lambda=1e-4,
            head_lr_mult=1.0,
            ranks=ranks,
        )
        index = np.arange(options.batch_size) % options.classes
        targets = paddle.nn.functional.one_hot(paddle.to_tensor(train.labels[index]), options.classes)
        self.batch = Batch(images=images, targets=targets, index=paddle.to_tensor(index))
        self.meter, self.done = Meter(ranks), 0

    def step(self) -> None:
        """Make one update."""
        seed_layers(SEED, self.done)
        train_step(self.model, self.regularizer, self.optimizer, self.meter, self.batch, self.done)
        self.done += 1


def steps_report(times: dict[str, list[float]]) -> dict:
    """Print the medians and their ratios, and the ratios of the fastest turns; return them with everything measured."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    least = {name: min(values) for name, values in times.items()}
    baseline, rows = medians[BASELINE], []
    for name, median in medians.items():
        if name in (BASELINE, FORWARD):
            floor, fastest, target = None, None, None
        else:
            passes = FLOORS.get(name, (1, 0))
            floor, fastest = (
                each[name] / (passes[0] * each[BASELINE] + passes[1] * each[FORWARD]) for each in (medians, least)
            )
            target = TARGETS.get(name, TARGET)
        rows.append((name, f"{1000 * median:.1f}", median / baseline, floor, fastest, target))
    columns = ("method", "ms", "x L2", "x floor", "fastest", "at most")
    show(columns, rows)
    return {"steps": [dict(zip(columns, row)) for row in rows], "seconds": times}


def attention(source: paddle.nn.Layer, options: argparse.Namespace) -> dict:
    """Measure DELTA's attention of the last block in closed form, on 64 images, in plain forwards of them."""
    images = random_images(ATTENTION_IMAGES, options.image_size)
    labels, frozen = np.arange(ATTENTION_IMAGES) % options.classes, Frozen(source)
    head = fit_head(frozen(images).features.numpy(), labels)
    last = stage_ends(source)[-1:]
    work = {
        FORWARD: lambda: seconds(lambda: frozen(images)),
        "attention": lambda: seconds(lambda: batch_increases(source, images, labels, head, last)),
    }
    times = in_turns(work, options.repeats)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ratio = medians["attention"] / medians[FORWARD]
    columns = (f"{ATTENTION_IMAGES} images", "ms", "x forward", "less than")
    rows = [
        (FORWARD, f"{1000 * medians[FORWARD]:.1f}", 1.0, None),
        ("attention", f"{1000 * medians['attention']:.1f}", ratio, ATTENTION_TARGET),
    ]
    print()
    show(columns, rows)
    return {"forwards": ratio, "seconds": times}


if __name__ == "__main__":
    errors.run(main)

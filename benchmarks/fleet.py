"""What a recipe costs and how long it takes on many GPUs: a simulation with assumed times, nothing is measured.

python benchmarks/fleet.py recipes/table2.yaml recipes/table3.yaml recipes/table4.yaml recipes/figure1.yaml

The runs are those of the recipe in the runner's order; each free GPU takes the next one. A run lasts its updates, its
evaluations, its scores and the starts of its processes. The seconds of an update of plain fine-tuning are given:
`--step resnet50=0.15`. What a method takes on top of that is the ratio that docs/performance.md has from a CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
import heapq
import math
from dataclasses import dataclass

from benchmarks import show, write_json
from datasets.official import DATA_SETS
from reproduction import recipes
from reproduction.runs import Run
from utils import errors
from utils.commandline import Parser, number

STEPS = ["resnet50=0.15", "efficientnet_b4=0.2"]  # assumptions, for 48 images of 224 pixels
# of an update over one of plain fine-tuning, ResNet-50, from docs/performance.md
METHODS = {"delta": 1.30, "smile": 1.30, "regsl": 1.02, "l2sp": 1.01, "rifle": 1.01, "cotuning": 1.01, "fe": 0.30}
FORWARD = 0.29  # of an update, to score as many images; likewise
IL_PASSES = 1 + 5  # forward passes of each image for the interpolation losses
MEGABYTES = {"resnet50": 94.0, "efficientnet_b4": 71.0}  # of the backbone's weights in float32


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        seconds: on one GPU.
        written: megabytes of checkpoints over its life.
        kept: megabytes of checkpoints at its end.
    """

    seconds: float
    written: float
    kept: float


def main(argv: list[str] | None = None) -> None:
    """Print GPU hours, makespan, idle share and the bytes that reach the disk, by recipe and number of GPUs."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("recipes", nargs="+", help="files as in recipes/")
    parser.add_argument("--gpus", nargs="+", type=count, default=[1, 8, 64, 512], metavar="N", help="how many")
    parser.add_argument("--step", nargs="+", default=STEPS, metavar="ARCH=SECONDS", help="an update of l2")
    parser.add_argument("--start", type=number(float, 0), default=20.0, help="seconds to start a process")
    parser.add_argument("--seeds", type=count, help="how many (the recipe's)")
    parser.add_argument("--json", metavar="FILE", help="where the numbers go")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    steps, rows, results = seconds_of(options.step), [], {}
    for path in options.recipes:
        recipe = recipes.load(path)
        seeds = list(range(options.seeds)) if options.seeds else recipe.seeds
        runs = [Run(recipe, cell, seed, "dataset", Path("out")) for cell in recipe.cells() for seed in seeds]
        costs = [cost(run, steps, options.start) for run in runs]
        results[recipe.path.stem] = [row(costs, gpus) for gpus in options.gpus]
        rows += [(recipe.path.stem, *each.values()) for each in results[recipe.path.stem]]
    assumed = ", ".join(f"{arch} {seconds:g} s" for arch, seconds in steps.items())
    print(f"assumed, not measured: an update of l2 takes {assumed}; a process starts in {options.start:g} s")
    show(("recipe", *next(iter(results.values()))[0]), rows)
    write_json(options.json, options, {"recipes": results})


def seconds_of(words: list[str]) -> dict[str, float]:
    """Return the seconds of an update by network, from words as resnet50=0.15.

    Raises:
        UsageError: a word is not like that.
    """
    steps = {}
    for word in words:
        arch, _, text = word.partition("=")
        try:
            steps[arch] = number(float, 0, above=True)(text)
        except argparse.ArgumentTypeError as error:
            raise errors.UsageError(f"--step {word}: accepted are words as resnet50=0.15: {error}") from None
    return steps


def cost(run: Run, steps: dict[str, float], start: float) -> Cost:
    """Return what a run takes with `steps` seconds for an update of plain fine-tuning by network.

    Raises:
        UsageError: the network has no such number, the data set is not an official one, or the recipe leaves out a
            number of updates.
    """
    settings, counts = run.settings, getattr(DATA_SETS.get(run.dataset.get("folder")), "counts", None)
    arch = settings.get("model_arch", "resnet50")
    if arch not in steps or arch not in MEGABYTES or counts is None:
        known = f"networks: {', '.join(sorted({*steps} & {*MEGABYTES}))}; data sets: {', '.join(DATA_SETS)}"
        raise errors.UsageError(
            f"{run.recipe.path}: {' '.join(run.cell)}: no assumptions for it; there are some for {known}"
        )
    absent = [flag for flag in ("max_iters", "eval_frequency", "save_frequency") if flag not in settings]
    if absent:
        raise errors.UsageError(f"{run.recipe.path}: {' '.join(run.cell)}: expected are options with {absent[0]}")
    updates, share = int(settings["max_iters"]), class_share(settings, counts.classes)
    evaluations = math.ceil(updates / int(settings["eval_frequency"]))
    images = evaluations * counts.test * share
    for score in run.recipe.scores.values():
        scored = counts.test * share
        if score["images"] == "train":
            scored = counts.train * share * int(run.recipe.sampling(run.cell).get("sample_rate", 100)) / 100
        images += scored * (IL_PASSES if score.get("il") == "true" else 1)
    step = steps[arch]
    seconds = updates * step * METHODS.get(run.method, 1.0)
    seconds += images * FORWARD * step / int(settings.get("batch_size", 48)) + start * (1 + len(run.recipe.scores))
    size = MEGABYTES[arch] * (3 if run.method == "smile" else 2)  # weights, momentum, SMILE's teacher
    saves = math.ceil(updates / int(settings["save_frequency"])) + evaluations  # _Best at most at every evaluation
    return Cost(seconds, saves * size, 2 * size)


def class_share(settings: dict[str, str], classes: int) -> float:
    """Return the share of the classes, and so of the images to score, that `sample_classes` leaves."""
    text = settings.get("sample_classes")
    if text is None:
        return 1.0
    return int(text[:-1]) / 100 if text.endswith("%") else int(text) / classes


def makespan(seconds: list[float], gpus: int) -> float:
    """Return when the last of the runs ends if each GPU takes the next one in the list as soon as it is free."""
    free = [0.0] * min(gpus, len(seconds))
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def row(costs: list[Cost], gpus: int) -> dict[str, float | int]:
    """Return the numbers of one line."""
    seconds = [each.seconds for each in costs]
    span, total = makespan(seconds, gpus), sum(seconds)
    written = sum(each.written for each in costs)
    return {
        "runs": len(costs),
        "GPUs": gpus,
        "GPU hours": f"{total / 3600:.1f}",
        "hours": f"{span / 3600:.2f}",
        "at best": f"{max(max(seconds), total / gpus) / 3600:.2f}",
        "idle %": f"{100 * (1 - total / (gpus * span)):.1f}",
        "GB written": f"{written / 1e3:.0f}",
        "MB/s": f"{written / span:.1f}",
        "MB/s peak": f"{max(each.written / each.seconds for each in costs) * min(gpus, len(costs)):.1f}",
        "GB kept": f"{sum(each.kept for each in costs) / 1e3:.0f}",
    }


if __name__ == "__main__":
    errors.run(main)

"""Run a recipe, a table of the paper or a grid of your own, and show measured beside published.

python reproduce.py recipes/demo.yaml
python reproduce.py recipes/table2.yaml --data_root dataset --only dataset=cub method=smile,l2 --seeds 0 --gpus 0,1
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import paddle

from reproduction import listing, making, needs, places, recipes, report
from reproduction.choice import Asked
from reproduction.progress import count
from reproduction.recipes import Recipe
from reproduction.values import numbers
from utils import errors, project
from utils.commandline import Parser, number, shortened
from utils.system import lock, relative

RAY_ONLY = ("gpus_per_run", "cpus_per_run", "scratch")


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="reproduce.py", description="Run a recipe; finished runs are kept, interrupted ones go on.")
    parser.add_argument("recipe", help="a file as in recipes/, or the name of one there, as demo")
    parser.add_argument("--data_root", default="dataset", help="folder that holds those of the data sets")
    parser.add_argument("--only", nargs="+", default=[], metavar="AXIS=KEY,...", help="dataset, protocol or method")
    parser.add_argument("--seeds", help="as in 0,1,2 (the recipe's)")
    parser.add_argument("--gpus", help="a process for each, as in 0,1; -1,-1 is two on the CPU (all GPUs, or one -1)")
    parser.add_argument("--out", help="where results go (reproduced/RECIPE)")
    parser.add_argument("--report", action="store_true", help="draw the tables of what is finished, run nothing")
    parser.add_argument("--dry_run", action="store_true", help="list every run with its command, run nothing")
    parser.add_argument("--format", choices=("text", "jsonl"), help="of --dry_run; jsonl: a line for each run (text)")
    parser.add_argument("--prepare", action="store_true", help="make what runs read, run none: for another scheduler")
    parser.add_argument("--drop_checkpoints", action="store_true", help="delete those of a run once it is scored")
    ray = parser.add_argument_group("on a Ray cluster")
    ray.add_argument("--ray", metavar="ADDRESS", help="HOST:PORT, auto, or local for one on this machine")
    share = number(float, 0, 1)
    ray.add_argument("--gpus_per_run", type=share, help="0 to 1; 0.5: two share one (1, or 0 where there are none)")
    ray.add_argument("--cpus_per_run", type=number(int, 1), help="CPUs of each run, and its threads (1)")
    ray.add_argument("--scratch", metavar="DIR", help="where machines without a shared folder work")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Read the command line and the recipe, run what is missing, write the tables; return the exit code."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    check(options)
    recipe = recipes.load(located(options.recipe))
    out = Path(relative(options.out or Path("reproduced", recipe.path.stem)))
    seeds = numbers(options.seeds.split(","), "--seeds") if options.seeds else recipe.seeds
    cells = recipe.cells(chosen(recipe, options.only))
    if options.report:
        print(report.write(recipe, out))
        return 0
    # relative below the working directory: a run resumes only with equal options
    asked = Asked(recipe, cells, seeds, relative(options.data_root), out)
    needs.check(recipe, [*asked.trials(), *asked.possible_tests()])
    if options.dry_run:
        elsewhere = options.format == "jsonl"
        gpu = devices(options.gpus, elsewhere)[0]
        print(*(listing.jsonl(asked, gpu) if elsewhere else listing.text(asked, gpu)), sep="\n")
        return 0
    with place(options) as where, alone(out):
        possible = making.provide(asked, where)
        if options.prepare:
            print(f"{count(len(possible))} can be made")
            return 0
        failures = making.make_all(asked, possible, where, options.drop_checkpoints)
        print(report.write(recipe, out))
    for title, reason in failures.items():
        print(f"FAILED {title}: {reason}")
    return 1 if failures else 0


def located(recipe: str) -> str | Path:
    """Return the file of a recipe; a name without a file of that name is one of this project's own."""
    own = project.ROOT / "recipes" / f"{recipe}.yaml"
    return own if recipe.isidentifier() and own.is_file() and not os.path.exists(recipe) else recipe


def check(options: argparse.Namespace) -> None:
    """Check which options go together.

    Raises:
        UsageError: naming those that do not.
    """
    if options.format and not options.dry_run:
        raise errors.UsageError("--format: only with --dry_run")
    for name in () if options.ray else RAY_ONLY:
        if getattr(options, name) is not None:
            raise errors.UsageError(f"--{name}: only with --ray")
    if options.ray and options.gpus:
        raise errors.UsageError("--gpus and --ray: give one of them; Ray chooses the GPUs, see --gpus_per_run")


def place(options: argparse.Namespace) -> contextlib.AbstractContextManager[places.Place]:
    """Return where the runs are made, for a `with` block."""
    if options.ray:
        return places.on_ray(options.ray, options.gpus_per_run, options.cpus_per_run, options.scratch)
    return contextlib.nullcontext(places.Here(devices(options.gpus)))


def chosen(recipe: Recipe, only: list[str]) -> dict[str, list[str]]:
    """Return the keys that `--only` selects of each axis it names.

    Raises:
        UsageError: an axis or a key that the recipe does not have.
    """
    kept = {}
    for word in only:
        axis, equals, keys = word.partition("=")
        if not equals or axis not in recipe.axes:
            raise errors.UsageError(f"--only {word}: accepted are {', '.join(f'{name}=...' for name in recipe.axes)}")
        unknown = [key for key in keys.split(",") if key not in recipe.axes[axis]]
        if unknown:
            raise errors.UsageError(f"--only {axis}={unknown[0]}: accepted are {', '.join(recipe.axes[axis])}")
        kept[axis] = kept.get(axis, []) + keys.split(",")
    return kept


def devices(text: str | None, elsewhere: bool = False) -> list[int]:
    """Return the device of each process.

    Args:
        text: value of `--gpus`.
        elsewhere: they are those of other machines: without `text` GPU 0.

    Raises:
        UsageError: `text` is not a list of numbers.
        DeviceError: there is no such GPU.
    """
    available = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if text is None:
        return [0] if elsewhere else list(range(available)) or [-1]
    try:
        gpus = [int(word) for word in text.split(",")]
    except ValueError:
        raise errors.UsageError(f"--gpus {shortened(text)}: accepted are numbers as in 0,1; -1 is the CPU") from None
    absent = [shortened(str(gpu)) for gpu in gpus if gpu < -1 or (gpu >= available and not elsewhere)]
    if absent:
        culprit = f"--gpus {shortened(text)}: no GPU {absent[0]}"
        raise errors.DeviceError(f"{culprit}, there are {available}; -1 is the CPU")
    return gpus


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Lock the folder `out` against other calls of this script.

    Raises:
        UsageError: another call holds the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "wb") as file:
        if not lock(file):
            raise errors.UsageError(f"--out {out}: another reproduce.py is at work there; give another --out")
        yield


if __name__ == "__main__":
    errors.run(main)

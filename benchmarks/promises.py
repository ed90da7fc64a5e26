"""How often a threshold of --reject promises too much: chosen on few held-out images, seen on all others.

python benchmarks/promises.py

Answers of confidence c are right with a probability that depends on c, so the accuracy above any threshold is known.
"without error" is how many of the surest held-out images show the target where all of them are right.
"given" is the share of draws of held-out images in which a threshold is found, "broken" the share of draws in which
it is and accepted answers are right less often than it promises, "of those given" the same as a share of the given;
"rejects" is the mean share of all images that a threshold rejects. "each alone" is how often a promise would be broken
in the worst case, answers right a hair less often than promised at every confidence, if each threshold had the whole
90 % of confidence for itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import argparse
from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from benchmarks import show, write_json
from evaluation.calibration import SURE, allowed_errors, choose_threshold, passing
from utils import errors
from utils.commandline import Parser, number
from utils.errors import UsageError

Share = Callable[[np.ndarray], np.ndarray]  # of answers that are right, from their confidence
EVERY = 100_000  # images that stand for all


def cases(target: float) -> dict[str, tuple[Share, float, float]]:
    """Return by name how often answers are right, and the two numbers of the beta law of their confidence."""
    return {
        "calibrated, 90 % right": (lambda confidence: confidence, 4.5, 0.5),
        "calibrated, 71 % right": (lambda confidence: confidence, 3.0, 1.2),
        f"{100 * target - 1:g} % right, sure or not": (
            lambda confidence: np.full(len(confidence), target - 0.01),
            3,
            1,
        ),
    }


def simulate(share: Share, a: float, b: float, count: int, target: float, draws: int, seed: int) -> dict[str, float]:
    """Return the shares of "given", "broken" and "rejects" over `draws` draws of `count` held-out images."""
    rng, kept, broken, rejected = np.random.default_rng(seed), 0, 0, 0.0
    every = np.sort(rng.beta(a, b, EVERY))
    above = share(every)[::-1].cumsum()[::-1] / np.arange(EVERY, 0, -1)
    for _ in range(draws):
        confidence = np.sort(rng.beta(a, b, count))
        try:
            threshold = choose_threshold(confidence, rng.random(count) < share(confidence), target)
        except UsageError:
            continue
        place = np.searchsorted(every, threshold.confidence)
        kept += 1
        broken += above[min(place, EVERY - 1)] < target
        rejected += place / EVERY
    return {"given": kept / draws, "broken": broken / draws, "rejects": rejected / kept if kept else float("nan")}


def alone(count: int, target: float) -> float:
    """Return how often a promise is broken in the worst case where each threshold is tested for itself; exact."""
    return passing(binom.ppf(1 - SURE, np.arange(1, count + 1), 1 - target).astype("int64") - 1, target)


def main(argv: list[str] | None = None) -> None:
    """Print a table: a row for each case and number of held-out images."""
    parser = Parser(prog="promises.py", description="How often a threshold of --reject promises too much.")
    parser.add_argument("--target", type=number(float, 0, 1, above=True, below=True), default=0.95, help="as --reject")
    parser.add_argument("--counts", type=number(int, 1), nargs="+", default=[50, 100, 200, 400, 1000], help="held out")
    parser.add_argument("--draws", type=number(int, 1), default=500, help="of held-out images, for each row")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of all draws")
    parser.add_argument("--json", metavar="FILE", help="write the numbers too")
    options: argparse.Namespace = parser.parse_args(argv)
    rows = []
    for name, (share, a, b) in cases(options.target).items():
        for count in options.counts:
            found = simulate(share, a, b, count, options.target, options.draws, options.seed)
            found["of those given"] = found["broken"] / found["given"] if found["given"] else float("nan")
            allowed = allowed_errors(count, options.target)
            found["without error"] = int(np.argmax(allowed >= 0)) + 1 if allowed[-1] >= 0 else None
            rows.append({"answers": name, "held out": count, **found, "each alone": alone(count, options.target)})
    columns = ("answers", "held out", "without error", "given", "rejects", "broken", "of those given", "each alone")
    show(columns, [tuple(row[column] for column in columns) for row in rows])
    write_json(options.json, options, {"promises": rows})


if __name__ == "__main__":
    errors.run(main)

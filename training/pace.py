"""How long a run takes, and how many updates it has when its length is given as a time or in epochs."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import paddle

from checkpoints import checkpoint
from datasets.loader import Dataset
from evaluation.scores import evaluate
from training import probe
from training.build import Run, batches_of, build
from training.options import Options
from training.runlog import NullLog, RunLog
from training.start import read_summary
from training.state import save
from training.step import train_step
from utils.commandline import LARGEST
from utils.distributed import Ranks
from utils.errors import warn
from utils.rng import seed_layers
from utils.shares import REFERENCE, at
from utils.words import duration

TIMED = 3  # updates before a forecast, the first of them left out
TRIED, TRIED_SECONDS = 12, 5.0  # updates timed for `--time` at most, and seconds after which fewer will do
RESERVE = 0.05  # share of `--time` for what is not timed: curves, summary, slower updates than the first ones
A_DAY = 86400.0


@dataclass(frozen=True)
class Pace:
    """The seconds of the parts of a run: an update with its batch, an evaluation, a checkpoint, the teacher's score."""

    update: float
    evaluation: float
    checkpoint: float = 0.0
    teacher: float = 0.0

    def seconds(self, options: Options, steps: int) -> float:
        """Return the seconds of `steps` updates with their evaluations; half of these write `_Best` beside `_Last`."""
        evaluations = -(-steps // at(options.eval_frequency, steps))
        saves = evaluations if options.save_frequency is None else max(evaluations, steps // options.save_frequency)
        written = (saves + evaluations / 2) * self.checkpoint
        return steps * self.update + evaluations * self.evaluation + written + self.teacher


def with_length(
    options: Options, train: Dataset, evaluation: Dataset, log: RunLog | NullLog, ranks: Ranks, began: float
) -> Options:
    """Return `options` with the number of updates that `--time` or `--epochs` stands for; others as they are.

    A run that is resumed keeps the number that was chosen at its start. The same on all ranks. `began` is when the run
    did, by `time.perf_counter`.

    Raises:
        UsageError: the method does not accept so few updates.
    """
    if options.max_iters is not None:
        return options
    if options.epochs is not None:
        return options.lasting(min(-(-options.epochs * len(train) // options.batch_size), LARGEST[int]))
    known = _chosen_before(log) if options.resume else None
    if known is not None:
        return options.lasting(known)
    pace, building = measure(options, train, evaluation, ranks)
    spent = paddle.to_tensor([time.perf_counter() - began], dtype="float64")
    left = (1 - RESERVE) * options.time - (ranks.all_reduce_sum(spent) / ranks.count).item() - building
    steps = _most_steps(pace, options, left)
    log.line(
        f"--time {duration(options.time)}: an update takes {duration(pace.update)}, an evaluation "
        f"{duration(pace.evaluation)}: --max_iters {steps}"
    )
    if pace.seconds(options, steps) > 1.1 * left:
        warn(f"--time {duration(options.time)} is too short: {steps} update takes longer")
    return options.lasting(steps)


def _chosen_before(log: RunLog | NullLog) -> int | None:
    last = log.path("_Last.pdparams")
    if last.exists():
        content = checkpoint.read(last)
        checkpoint.validate_run(content, last)
        return content["options"]["max_iters"]
    summary = read_summary(log.path(".json"))
    return summary["options"]["max_iters"] if summary else None


def _most_steps(pace: Pace, options: Options, seconds: float) -> int:
    """Return the largest number of updates, at least 1, that take no more than `seconds`."""
    low, high = 1, max(2, int(seconds / pace.update) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pace.seconds(options, middle) <= seconds else (low, middle)
    return low


def measure(options: Options, train: Dataset, evaluation: Dataset, ranks: Ranks) -> tuple[Pace, float]:
    """Time a few updates, evaluations and a checkpoint of a run that is thrown away; return also the seconds to build.

    A linear probe counts as building, by its pass over the training images; its fits, of features, are left out. The
    means over the ranks, the same on each.
    """
    began = time.perf_counter()
    with ranks.rank0_first():
        run = build(options.lasting(REFERENCE), train, [], {}, ranks)
    building, seconds = time.perf_counter() - began, []
    batches = batches_of(options, train, ranks)
    before = time.perf_counter()
    for step, batch in zip(range(TRIED), batches):
        seed_layers(options.seed, step, ranks.rank)
        train_step(run.model, run.regularizer, run.optimizer, run.meter, batch, step, run.criterion)
        _wait(run)
        seconds.append(time.perf_counter() - before)
        enough = ranks.any_signal(int(step >= TIMED and sum(seconds) > TRIED_SECONDS), look=True)
        if enough:
            break
        before = time.perf_counter()
    before = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        save(run, Path(folder, "timed.pdparams"), 1, lambda _: None)
    saving = time.perf_counter() - before
    if probe.asked_for(options):
        building += evaluation_seconds(run, train) * ranks.count  # each rank takes all of them
    scoring = evaluation_seconds(run, evaluation)
    teacher = scoring if run.regularizer.averaged else 0.0  # scored once, after the last update
    parts = [statistics.fmean(seconds[1:]), scoring, saving, teacher, building]
    means = ranks.all_reduce_sum(paddle.to_tensor(parts, dtype="float64")) / ranks.count
    *parts, building = means.tolist()
    return Pace(*parts), building


def evaluation_seconds(run: Run, evaluation: Dataset) -> float:
    """Return the seconds that scoring `evaluation` takes, from some of its images; the network stays as it is."""
    count = min(len(evaluation), run.options.batch_size_eval * run.ranks.count)
    few = replace(evaluation, positions=evaluation.positions[:count], labels=evaluation.labels[:count])
    seconds = []
    for _ in range(2):  # the first one also prepares what later ones find
        began = time.perf_counter()
        evaluate(run.model, few, run.options.batch_size_eval, ranks=run.ranks)
        seconds.append(time.perf_counter() - began)
    return seconds[-1] * len(evaluation) / count


class Forecast:
    """Says once, after a few updates of a run, how it begins and how long the rest takes.

    Args:
        run: before its first update.
        evaluation: the images that it is scored on.
        log: where it is said.
        first: the updates before this start.
    """

    def __init__(self, run: Run, evaluation: Dataset, log: RunLog | NullLog, first: int):
        self.run, self.evaluation, self.log = run, evaluation, log
        self.timed = range(first + 1, first + TIMED + 1) if run.options.max_iters - first > 2 * TIMED else range(0)

    def update(self, done: int) -> None:
        """Take note of the moment after `done` updates; speak up after the last one that is timed."""
        if not self.timed or done not in (self.timed[0], self.timed[-1]):
            return
        _wait(self.run)
        if done == self.timed[0]:
            if done == 1:
                self.log.first(self.run.meter.state()[0]["ce"])
            self.began = time.perf_counter()
            return
        options = self.run.options
        if options.time is not None:  # all of this was timed before, and said
            return
        update = (time.perf_counter() - self.began) / (TIMED - 1)
        with self.run.watch.exclude():
            scoring = evaluation_seconds(self.run, self.evaluation)
        pace = Pace(update, scoring, teacher=scoring if self.run.regularizer.averaged else 0.0)
        rest = pace.seconds(options, options.max_iters) - done * update
        self.log.line(
            f"an update takes {duration(pace.update)}, an evaluation {duration(pace.evaluation)}; "
            f"about {duration(rest)} to the end"
        )
        if rest > A_DAY and self.run.ranks.first:
            warn(f"this run takes about {duration(rest)}; --time 2h makes it as long as that, --max_iters N is shorter")


def _wait(run: Run) -> None:
    """Wait until the device has done what was asked of it."""
    run.model.head.weight.numpy()

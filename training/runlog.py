"""What a run says and leaves behind: lines, a table, a picture, a summary and VisualDL's curves."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from datasets import splits
from datasets.batch import Batch
from datasets.preprocess import ORDINARY, Preprocess
from evaluation import curves, metrics
from evaluation.error_analysis import csv_text
from evaluation.scores import Scores
from training import settings
from training.advice import Advice
from training.build import Run
from training.options import AFFECTING, Options
from training.summary import Summary
from training.table import COLUMNS, read_rows
from utils.bars import progress_bar
from utils.distributed import Ranks
from utils.errors import UsageError, warn
from utils.files import write_text
from utils.optional import absent, installed
from utils.system import lock

MANY_EPOCHS = 1000  # above it a run is said to be long for its images
_DRAWN_BY = {"visualdl": "curves for VisualDL", "matplotlib": "pictures"}  # without them a run goes on
# options that nobody compares runs by, beside those that cannot change a result
_NOT_COMPARED = {"name", "print_frequency", "eval_frequency", "batch_size_eval", "select"}


class RunLog:
    """The files of one run, by the reference's names.

    `step` counts the updates made: a line, row or curve point of step n was written after n updates.

    Args:
        save: folder of the checkpoints, tables and pictures.
        log_dir: folder that holds one VisualDL folder for each run.
        run: the run's name.

    Raises:
        UsageError: another process is writing a run of this name.
    """

    def __init__(self, save: str, log_dir: str, run: str):
        self.base, self.run = Path(save) / run, run
        self.visual_dir = Path(log_dir) / run
        self.base.parent.mkdir(parents=True, exist_ok=True)
        self._text = open(  # noqa: SIM115
            self.path(".txt"), "a+", encoding="utf-8", errors="backslashreplace", newline="\n"
        )
        if not lock(self._text):
            self._text.close()
            raise UsageError(f"--name: another process is writing {self.path('.txt')}; give another --name")
        self._began = os.fstat(self._text.fileno()).st_size  # before it are the lines of earlier processes
        self.rows: list[dict] = []
        self._bar, self._visual, self._inputs = None, None, {}
        self._draws = installed("matplotlib")
        self._replaces = False  # whether files of an earlier run are still there, or may be

    def path(self, ending: str) -> Path:
        """Return the file of this run with `ending`."""
        return self.base.with_name(self.base.name + ending)

    def start(self, step: int, total: int, evaluated: bool = False) -> None:
        """Begin at `step`: 0 empties the run's curves, more keeps what was written up to there.

        Args:
            step: the number of updates before this start.
            total: updates in the whole run.
            evaluated: whether there was an evaluation among them, so that the table has rows.
        """
        self._replaces, self.total = step == 0, total
        self.rows = [row for row in read_rows(self.path(".csv")) if int(row["step"]) <= step] if step else []
        if evaluated and not self.rows:
            warn(f"{self.path('.csv')}: no rows up to step {step}; the table begins there")
        lacking = [what for package, what in _DRAWN_BY.items() if not installed(package)]
        if lacking:
            self.line(f"WARNING: no {' and no '.join(lacking)} of this run: {absent(*_DRAWN_BY)}")
        self._visual = curves.VisualLog(self.visual_dir, step, self.line)
        self._shown = False
        about = {"desc": self.run, "unit": "step", "leave": True, "dynamic_ncols": True}
        self._bar = progress_bar(total=self.total, initial=step, **about)
        self._started, self._first = time.time(), step

    def describe(self, run: Run, device: str) -> None:
        """Log what the run trains on; write its training files and its options, a new run with its first checkpoint."""
        self._inputs = {"_samples.txt": splits.listing(run.train)[0], ".yaml": settings.text(run.options)}
        if not self._replaces:
            self._write_inputs()
        for line in run.skipped:
            self.line(f"skipped: {line}")
        self.line(f"{self.run}: {len(run.train)} images, {len(run.train.class_names)} classes, {device}")
        options, source = run.options, run.source
        self.advice = Advice(warn, len(run.train.class_names), source and source["classes"], options.max_iters)
        epochs = options.max_iters * options.batch_size / len(run.train)
        self.line(f"{options.max_iters} updates of {options.batch_size} images, {epochs:,.3g} epochs")
        self.line(", ".join(f"{name} {value:.6g}" for name, value in options.following().items()))
        if epochs > MANY_EPOCHS:
            warn(f"the run sees each image {epochs:,.0f} times; --epochs N or --time 10m makes a shorter one")

    def replace_earlier(self, first: Path) -> None:
        """Remove the files of an earlier run of this name, once.

        Args:
            first: the first checkpoint of this run, which is written and about to be renamed to this name.
        """
        if not self._replaces:
            return
        self._replaces = False
        for ending in (".json", ".csv", ".png", "_Best.pdparams", "_Last.pdparams"):
            if self.path(ending) != first:
                self.path(ending).unlink(missing_ok=True)
        self._write_inputs()
        if self._began:
            with open(self.path(".txt"), "rb") as file:
                file.seek(self._began)
                lines = file.read()
            self._text.truncate(0)
            self._text.write(lines.decode("utf-8", "replace"))
            self._text.flush()

    def _write_inputs(self) -> None:
        for ending, text in self._inputs.items():
            write_text(self.path(ending), text)

    def line(self, text: str) -> None:
        """Print a line and append it to the run's log, with the time."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        try:
            print(time.strftime("%m-%d %H:%M:%S"), text, file=self._text, flush=True)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path(".txt"))) from None

    def advance(self) -> None:
        """Move the progress bar on by one step."""
        self._bar.update()

    def first(self, cross_entropy: float) -> None:
        """Look at the cross-entropy of the first update of a new run."""
        self.advice.first(cross_entropy)

    def training(self, step: int, lr: float, means: dict[str, float], accuracy: float, rate: float) -> None:
        """Report the means since the last report: the loss, its terms, the accuracy in percent, images/s."""
        loss = means["loss"]
        parts = {name: value for name, value in means.items() if name != "loss"}
        terms = "".join(f"  {name} {value:.4f}" for name, value in parts.items()) if len(parts) > 1 else ""
        left = (time.time() - self._started) / (step - self._first) * (self.total - step)
        self.line(
            f"step {step}/{self.total}  lr {lr:.4g}  loss {loss:.4f}{terms}  train {accuracy:.2f} %"
            f"  {rate:.0f} images/s  {_clock(left)} left"
        )
        self._last = {"step": step, "lr": lr, "train_loss": loss, "train_acc": accuracy}
        scalars = {"train_loss": loss, "train_acc": accuracy, "train/lr": lr, "time/images_per_second": rate}
        scalars.update({f"train/loss_{name}": value for name, value in parts.items()})
        self._visual.scalars(step, scalars)
        self.advice.report(step, means)

    def evaluation(self, step: int, scores: Scores, best: bool) -> None:
        """Report the scores on the evaluation images, add them to the table, redraw the picture."""
        self.line(f"step {step}/{self.total}  evaluation: {scores}{'  (best so far)' if best else ''}")
        self.rows.append({**self._last, **metrics.table_cells(scores.values)})
        write_text(self.path(".csv"), csv_text(self.rows, (*COLUMNS, *metrics.columns())))
        if self._draws:
            curves.draw(self.path(".png"), self.run, self.rows)
        self._visual.scalars(step, metrics.curve_points(scores.values))
        self.advice.evaluation(self.rows)

    def mixed(self, step: int, batch: Batch, classes: Sequence[str], preprocess: Preprocess = ORDINARY) -> None:
        """Show the first batch with mixed images that it is given, with their labels; no other one.

        Args:
            step: updates made.
            batch: what the last one of them trained on.
            classes: the names of the classes.
            preprocess: how its images were normalised.
        """
        if batch.mix is None or self._shown or not self._draws:
            return
        images, targets = batch.images.numpy(), batch.targets.numpy()
        self._visual.image(step, "train/mixed", images, targets, classes, preprocess)
        self._shown = True

    def summary(self, summary: Summary) -> None:
        """Write the run's summary, and for VisualDL the options that runs are compared by beside how it ended."""
        write_text(self.path(".json"), json.dumps(summary.to_dict(), indent=2) + "\n")
        self._visual.scalars(summary.best["step"], {"val/best_acc": summary.best["acc"]})
        method = summary.options["method"]
        named = {"regularizer": summary.options["regularizer"], **method, **summary.options}
        shown = [name for name in named if name in method or (name in AFFECTING and name not in _NOT_COMPARED)]
        shown.sort(key=lambda name: name.endswith("_dir"))
        compared = {name: named[name] for name in shown if named[name] is not None}
        self._visual.options(compared, ["val/best_acc", *metrics.tags()])
        if summary.teacher:
            self.line(f"last {summary.teacher['acc']:.2f} % by the teacher's weights")
        self.line(str(summary))

    def close(self) -> None:
        """Close the files; the run's name is free again."""
        for file in (self._bar, self._visual, self._text):
            if file is not None:
                with contextlib.suppress(Exception):
                    file.close()


class NullLog:
    """The log of a rank that writes nothing.

    Args:
        save: folder of the run's files.
        run: the run's name.
    """

    def __init__(self, save: str, run: str):
        self.base = Path(save) / run

    path = RunLog.path

    def _nothing(self, *_: object) -> None:
        """Write nothing."""

    start = describe = first = training = evaluation = summary = _nothing
    line = advance = mixed = replace_earlier = close = _nothing


def open_log(options: Options, ranks: Ranks) -> RunLog | NullLog:
    """Return the log of this rank: the first one writes the files of the run.

    Raises:
        UsageError: another process is writing a run of this name.
    """
    if ranks.first:
        return RunLog(options.save, options.log_dir, options.run)
    return NullLog(options.save, options.run)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

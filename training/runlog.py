"""What a run says and leaves behind: lines, a table, a picture, a summary and VisualDL's curves."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from datasets.batch import Batch
from evaluation import curves, metrics
from evaluation.error_analysis import csv_text
from evaluation.scores import Scores
from training.build import FREE
from utils.errors import UsageError
from utils.files import write_text

COLUMNS = ("step", "lr", "train_loss", "train_acc")  # then those of the metrics
# options that nobody compares runs by: names, places, and what cannot change a result
_NOT_COMPARED = FREE | {"run", "name", "method", "check_data", "print_frequency", "eval_frequency", "batch_size_eval"}


class RunLog:
    """The files of one run, by the reference's names.

    `step` counts the updates made: a line, row or curve point of step n was written after n updates.

    Args:
        save: folder of the checkpoints, tables and pictures.
        log_dir: folder that holds one VisualDL folder for each run.
        run: the run's name.
        total: updates in the whole run.

    Raises:
        UsageError: another process is writing a run of this name.
    """

    def __init__(self, save: str, log_dir: str, run: str, total: int):
        self.base, self.run, self.total = Path(save) / run, run, total
        self.visual_dir = Path(log_dir) / run
        self.base.parent.mkdir(parents=True, exist_ok=True)
        self._text = open(self.path(".txt"), "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        try:
            fcntl.flock(self._text, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--name: another process is writing {self.path('.txt')}; give another --name") from None
        except OSError:  # a file system without locks
            pass
        self.rows: list[dict] = []
        self._bar, self._visual = None, None

    def path(self, ending: str) -> Path:
        """Return the file of this run with `ending`."""
        return self.base.with_name(self.base.name + ending)

    def start(self, step: int) -> None:
        """Begin at `step`: 0 empties the run's table and curves, more keeps what was written up to there."""
        if step == 0:
            self._text.truncate(0)
            for ending in (".csv", ".png"):  # of an earlier run
                self.path(ending).unlink(missing_ok=True)
        self.rows = [row for row in read_rows(self.path(".csv")) if int(row["step"]) <= step] if step else []
        self._visual = curves.VisualLog(self.visual_dir, step, self.line)
        self._shown = False
        self._bar = tqdm(total=self.total, initial=step, desc=self.run, unit="step", disable=None, dynamic_ncols=True)
        self._started, self._first = time.time(), step

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

    def evaluation(self, step: int, scores: Scores, best: bool) -> None:
        """Report the scores on the evaluation images, add them to the table, redraw the picture."""
        self.line(f"step {step}/{self.total}  evaluation: {scores}{'  (best so far)' if best else ''}")
        self.rows.append({**self._last, **metrics.table_cells(scores.values)})
        write_text(self.path(".csv"), csv_text(self.rows, (*COLUMNS, *metrics.columns())))
        curves.draw(self.path(".png"), self.run, self.rows)
        self._visual.scalars(step, metrics.curve_points(scores.values))

    def mixed(self, step: int, batch: Batch, classes: Sequence[str]) -> None:
        """Show the first batch with mixed images that it is given, with their labels; no other one.

        Args:
            step: updates made.
            batch: what the last one of them trained on.
            classes: the names of the classes.
        """
        if batch.mix is None or self._shown:
            return
        images, targets = batch.images.numpy(), batch.targets.numpy()
        self._visual.image(step, "train/mixed", images, targets, classes)
        self._shown = True

    def summary(self, content: dict) -> None:
        """Write the run's summary, and for VisualDL its options beside how it ended."""
        write_text(self.path(".json"), json.dumps(content, indent=2) + "\n")
        best, options = content["best"], content["options"]
        self._visual.scalars(best["step"], {"val/best_acc": best["acc"]})
        named = {"regularizer": options["regularizer"], **options["method"], **options}
        shown = sorted(named.keys() - _NOT_COMPARED, key=lambda name: (name.endswith("_dir"), [*named].index(name)))
        compared = {name: named[name] for name in shown if named[name] is not None}
        self._visual.options(compared, ["val/best_acc", *map(metrics.tag, metrics.METRICS)])

    def close(self) -> None:
        """Close the files; the run's name is free again."""
        for file in (self._bar, self._visual, self._text):
            if file is not None:
                with contextlib.suppress(Exception):
                    file.close()


class SilentLog(RunLog):
    """The log of a rank that writes nothing.

    Args:
        save: folder of the run's files.
        run: the run's name.
    """

    def __init__(self, save: str, run: str):
        self.base = Path(save) / run

    def _nothing(self, *_) -> None:
        """Say and write nothing."""

    start = line = advance = training = evaluation = mixed = summary = close = _nothing


def read_rows(path: str | os.PathLike) -> list[dict]:
    """Return the rows of a run's table; none when there is no table yet."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

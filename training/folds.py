"""Cross-validation: every training image is scored once, by a network that was trained without it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from checkpoints import checkpoint
from checkpoints.classifier import Classifier
from checkpoints.pretrained import trained_with
from datasets import splits
from datasets.loader import Dataset
from evaluation.calibration import calibrate
from evaluation.error_analysis import csv_text
from evaluation.intervals import interval
from evaluation.metrics import softmax
from evaluation.scores import predict, score
from training.options import AUTO, ONLY, Options
from training.start import as_started
from training.summary import Summary
from utils.errors import UsageError
from utils.files import write_text


@dataclass(frozen=True)
class Pooled:
    """The scores of all images, each out of the fold that it was held out in.

    Attributes:
        run: the name of the files, without `_folds`.
        folds: how many there were.
        scores: every metric over all images by its name.
        low, high: the 95 % interval of the accuracy in percent (Wilson's).
        class_acc: accuracy in percent of each class by its name.
        each: accuracy in percent of each fold.
        final: the name of the network that was trained on all images.
        temperature: fitted to all images, for the network of all images; None without `--calibrate`.
    """

    run: str
    folds: int
    count: int
    scores: dict[str, float | None]
    low: float
    high: float
    class_acc: dict[str, float]
    each: list[float]
    final: str
    temperature: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.run}: {self.scores['acc']:.2f} % of {self.count} images by {self.folds} folds, "
            f"95 % interval {self.low:.1f} to {self.high:.1f}; folds {min(self.each):.1f} to {max(self.each):.1f}; "
            f"the network of all images is {self.final}"
            f"{f', at a temperature of {self.temperature:.4f}' if self.temperature else ''}"
        )


def cross_validate(options: Options, run: Callable[[Options], Summary | None]) -> Pooled:
    """Make a run without each fold and one of all images, and pool the scores of the folds.

    Every run is an ordinary one, `NAME_fold1_METHOD` to `NAME_foldK_METHOD` and `NAME_METHOD`; with `--resume` the
    finished ones are kept. Leaves `NAME_METHOD_folds.csv`, a row for each image, and `NAME_METHOD_folds.json`.

    With `--calibrate` the last checkpoint of the run of all images gets the temperature, the confidences and the hits
    of the folds' networks for the images that they did not see, for it has seen all of them. The scores are without it.

    Args:
        options: with `folds`.
        run: trains with the options of one run.

    Raises:
        UsageError: nothing is to be trained, or there are several processes.
    """
    if options.dry_run or options.probe == ONLY:
        raise UsageError(f"--folds trains: accepted without --dry_run and --probe {ONLY}")
    if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1":
        raise UsageError("--folds: accepted with one process; --fold 1/5 is the first part alone, with several")
    count, rows, logits, labels, each = options.folds, [], [], [], []
    single = replace(options, folds=None, fold=f"0/{count}", calibrate=False, resume=AUTO if options.resume else False)
    for number in range(1, count + 1):
        name = f"{options.name}_fold{number}"
        fold = as_started(replace(single, fold=f"{number}/{count}", name=name, run=f"{name}_{options.regularizer}"))
        run(fold)
        held, found = _out_of_fold(fold)
        each.append(score(found, held.labels).acc1)
        rows += _rows(held, found, number)
        logits.append(found)
        labels.append(held.labels)
    run(single)
    found, truth = np.concatenate(logits), np.concatenate(labels)
    hits = found.argmax(axis=1) == truth
    final = Path(options.save, f"{options.run}_Last.pdparams")
    calibration = calibrate(found, truth) if options.calibrate else None
    if calibration:
        checkpoint.save(final, {**checkpoint.read(final), "calibration": calibration})
    pooled = Pooled(
        run=options.run,
        folds=count,
        count=len(truth),
        scores=score(found, truth).values,
        **dict(zip(("low", "high"), interval(int(hits.sum()), len(truth)))),
        class_acc={name: 100 * float(hits[truth == k].mean()) for k, name in enumerate(held.class_names)},
        each=each,
        final=final.name,
        temperature=calibration and calibration["temperature"],
    )
    _write(pooled, rows, Path(options.save, f"{options.run}_folds"))
    return pooled


def _write(pooled: Pooled, rows: list[dict], base: Path) -> None:
    write_text(f"{base}.csv", csv_text(sorted(rows, key=lambda row: row["path"])))
    write_text(f"{base}.json", json.dumps(asdict(pooled), indent=2) + "\n")


def _out_of_fold(options: Options) -> tuple[Dataset, np.ndarray]:
    """Return the images that a finished run held out, and its last network's logits for them, float32 [N, K]."""
    held = splits.scan_folders(options, trained_with(options.pretrained, options.model_arch))[1]
    model = Classifier.load(str(Path(options.save, f"{options.run}_Last.pdparams")))
    return held, predict(model.network, held, options.batch_size_eval)


def _rows(held: Dataset, logits: np.ndarray, number: int) -> list[dict]:
    names, best = held.class_names, logits.argmax(axis=1)
    confidence = softmax(logits.astype("float64")).max(axis=1)
    return [
        {
            "path": path,
            "fold": number,
            "class": names[label],
            "predicted": names[top],
            "correct": int(label == top),
            "probability": f"{sure:.6f}",
        }
        for path, label, top, sure in zip(held.paths, held.labels, best, confidence)
    ]

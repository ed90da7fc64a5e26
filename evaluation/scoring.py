"""Checkpoints scored on a folder of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from paddle import nn

from checkpoints.classifier import WEIGHTS, Classifier
from datasets.cache import StreamedImages
from datasets.folder import same_classes
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from datasets.splits import decode_once
from evaluation.calibration import Calibration, Threshold
from evaluation.comparison import Answers
from evaluation.compiled import Compiled
from evaluation.prediction import BATCH_SIZE_EVAL, chosen_threshold
from evaluation.scores import Scores, predict, score
from utils.errors import DataError, names


@dataclass(frozen=True)
class Scored:
    """A checkpoint scored on a folder.

    Attributes:
        path: the checkpoint.
        model: what it holds.
        images: labelled in the order of the network's outputs.
        logits: for each image, float [N, K], divided by the checkpoint's temperature.
        scores: the metrics.
        batch_size: images scored at a time.
        seconds: spent on scoring.
        calibration: what the checkpoint's temperature changes; None without one.
        thresholds: the confidences from which answers are accepted, one for each share that was asked for.
    """

    path: str
    model: Classifier
    images: Dataset
    logits: np.ndarray
    scores: Scores
    batch_size: int
    seconds: float
    calibration: Calibration | None
    thresholds: list[Threshold]

    @property
    def network(self) -> nn.Layer:
        """The network in eval mode."""
        return self.model.network

    @property
    def answers(self) -> Answers:
        """Which images it classifies correctly."""
        return Answers(self.path, self.images, self.logits.argmax(axis=1) == self.images.labels)

    def __str__(self) -> str:
        line = f"{self.path}: {self.scores}  {self.seconds:.1f} s"
        return f"{line}\n{self.path}: {self.calibration}" if self.calibration else line


def score_checkpoints(
    paths: Sequence[str],
    store_of: Callable[[Preprocess], StreamedImages],
    batch_size: int | None = None,
    arch: str | None = None,
    image_size: int | None = None,
    onednn: bool = False,
    weights: str = WEIGHTS[0],
    targets: Sequence[float] = (),
) -> Iterator[Scored]:
    """Score one checkpoint after the other, each image once.

    Args:
        paths: the checkpoints.
        store_of: returns the images of the folder, resized as a checkpoint asks.
        batch_size: images scored at a time; None for the number used in training.
        arch, image_size: of checkpoints of the reference, as for `Classifier.load`.
        onednn: whether the scores come from `Compiled` networks, faster on a CPU and rounded otherwise.
        weights: whose, as there.
        targets: for each a threshold is chosen on the checkpoint's held-out images.

    Raises:
        DataError: an image cannot be read, or the folder does not have the checkpoint's classes.
        WeightsError, UsageError: as `Classifier.load` and `chosen_threshold`.
    """
    stores: dict[Preprocess, StreamedImages] = {}
    for path in paths:
        model = Classifier.load(path, arch, image_size, weights)
        thresholds = [chosen_threshold(model, target, path) for target in targets]
        if model.preprocess not in stores:
            stores[model.preprocess] = store_of(model.preprocess)
        images = labelled(stores[model.preprocess], model, path)
        decode_once(images, "decoding the test images")
        size = batch_size or model.batch_size_eval or BATCH_SIZE_EVAL
        began = time.perf_counter()
        network = Compiled(model.network, model.preprocess.image_size) if onednn else model.network
        logits, calibration = predict(network, images, size), None
        if model.calibration:
            fitted_on = len(model.calibration["correct"])
            calibration = Calibration.of(logits, images.labels, model.temperature, fitted_on)
            logits = logits / np.float64(model.temperature)
        scores = score(logits, images.labels)
        yield Scored(path, model, images, logits, scores, size, time.perf_counter() - began, calibration, thresholds)


def labelled(store: StreamedImages, model: Classifier, path: str) -> Dataset:
    """Return the images of the folder of `store`, labelled in the order of the network's outputs.

    Raises:
        DataError: the folder does not have the checkpoint's classes.
    """
    folder = store.images
    if model.class_names is not None:
        same_classes(folder, model.class_names, f"--test_{folder.kind}", path, or_more=model.sampled)
        others = len({*folder.class_names} - {*model.class_names})
        if others:
            print(f"{path}: {others} classes of {folder.origin} are not among the checkpoint's {model.width}: left out")
    elif len(folder.class_names) != model.width:
        culprit = f"--test_{folder.kind} {folder.origin}"
        raise DataError(f"{culprit}: {len(folder.class_names)} classes, {path} has {model.width}")
    images = Dataset.of(store, model.class_names or folder.class_names)
    absent = images.classes_without_images
    if absent:
        print(f"{path}: {folder.origin} has no image of {names(absent)}: scored without them")
    if not len(images):
        raise DataError(f"--test_{folder.kind} {folder.origin}: no image of the classes of {path}")
    return images


def spread(accuracies: Sequence[float]) -> str:
    """Return a line with the range of the top-1 accuracies of several checkpoints, in percent."""
    low, middle, high = np.percentile(accuracies, [0, 50, 100])
    return f"top-1 of {len(accuracies)} checkpoints: min {low:.2f} %, median {middle:.2f} %, max {high:.2f} %"

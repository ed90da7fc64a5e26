"""Images of files and folders labelled by one network, or by the mean of several."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle

from checkpoints.classifier import WEIGHTS, Classifier
from datasets import sheet
from datasets.cache import workers
from datasets.decoder import Source
from datasets.folder import EXTENSIONS, images_below, listed
from datasets.loader import ahead, crop, normalise
from datasets.preprocess import Preprocess, decode
from evaluation.calibration import Threshold, choose_threshold
from evaluation.error_analysis import Ranking
from evaluation.metrics import softmax
from evaluation.predictions import Predictions
from utils.bars import progress_bar
from utils.errors import DataError, UsageError, WeightsError, names, warn

BATCH_SIZE_EVAL = 8  # the reference's
SHEET = 120  # images of a sheet at most

Given = dict[str, bool]  # the images in order, and whether each was named rather than found in a folder
Batch = tuple[list[str], list[DataError], dict[Preprocess, np.ndarray]]


def find(paths: Sequence[str]) -> Given:
    """Return every image once, those of a folder sorted by path.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    images: Given = {}
    for path in paths:
        if os.path.isdir(path):
            for file in sorted(map(str, image_files(path, path))):
                images.setdefault(file, False)
        elif os.path.exists(path):
            images[path] = True
        else:
            raise DataError(f"{path}: no such file or folder")
    return images


def image_files(folder: str, culprit: str) -> list[Path]:
    """Return the images below `folder`; one line of warning counts the other files there.

    Raises:
        DataError: there is none; the message begins with `culprit`.
    """
    left_out: Counter[str] = Counter()
    found = list(images_below(folder, left_out))
    if +left_out:
        warn(f"{culprit}: left out: {listed(+left_out)}")
    if not found:
        raise DataError(f"{culprit}: no images in it; known are {' '.join(EXTENSIONS)}")
    return found


def load(
    checkpoints: Sequence[str], arch: str | None = None, image_size: int | None = None, weights: str = WEIGHTS[0]
) -> list[Classifier]:
    """Return the networks.

    Raises:
        UsageError: a file has not the `weights` that were asked for, or contradicts another argument.
        WeightsError: a file is absent, damaged or refused, or its classes are not those of the first.
    """
    models = [Classifier.load(path, arch, image_size, weights) for path in checkpoints]
    first = class_names(models[0])
    for path, model in zip(checkpoints, models):
        others = class_names(model)
        if others != first:
            odd = sorted({*first} ^ {*others}) or ["the same in another order"]
            raise WeightsError(f"{path}: not the classes of {checkpoints[0]}: {names(odd)}")
    return models


def class_names(model: Classifier) -> list[str]:
    """Return the names of the outputs: their numbers, from 0, where the checkpoint has no names."""
    return model.class_names or [str(label) for label in range(model.width)]


@paddle.no_grad()
def label(
    models: list[Classifier],
    images: Given,
    batch_size: int | None = None,
    threshold: Threshold | None = None,
    sources: Mapping[str, Source] | None = None,
    with_features: bool = False,
) -> Predictions:
    """Return the labels of the `images` that could be read, by the mean of the networks' probabilities.

    An image of a folder that cannot be read is left out with one line of warning.

    Args:
        models: of the same classes.
        images: their names, as of `find`.
        batch_size: how many are labelled at a time; by default as in the training of the first network.
        threshold: of the first network, to reject by.
        sources: by name what is not the path of a file.
        with_features: keep those of the first network.

    Raises:
        DataError: an image that was named cannot be read, or none can.
    """
    batch_size = batch_size or models[0].batch_size_eval or BATCH_SIZE_EVAL
    paths, rows, features = [], [], []
    with progress_bar(total=len(images), desc="labelling", unit="image") as bar:
        for batch, failures, crops in ahead(_read(models, images, batch_size, sources or {})):
            for failure in failures:
                warn(str(failure))
            if batch:
                inputs = {each: normalise(pixels, each) for each, pixels in crops.items()}
                outputs = [model.network(inputs[model.preprocess]) for model in models]
                logits = [each.logits.numpy() for each in outputs]
                scaled = [each.astype("float64") / model.temperature for each, model in zip(logits, models)]
                rows.append(np.mean([softmax(each) for each in scaled], axis=0))
                paths += batch
                if with_features:
                    features.append(outputs[0].features.numpy())
            bar.update(len(batch) + len(failures))
    if not paths:
        raise DataError(f"none of the {len(images)} images can be read")
    probabilities = np.concatenate(rows)
    return Predictions(
        paths,
        class_names(models[0]),
        probabilities,
        unreadable=len(images) - len(paths),
        rejected=threshold.rejects(probabilities.max(axis=1)) if threshold else None,
        features=np.concatenate(features) if with_features else None,
    )


def _read(models: list[Classifier], images: Given, batch_size: int, sources: Mapping[str, Source]) -> Iterator[Batch]:
    """Yield the paths of a batch, the failures in it, and its centre crops by how they were resized."""
    resizes = list(dict.fromkeys(model.preprocess for model in models))

    def attempt(path: str) -> list[np.ndarray] | DataError:
        try:
            return [decode(sources.get(path, path), resize, path) for resize in resizes]
        except DataError as failure:
            if images[path]:
                raise
            return failure

    order = list(images)
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(order), batch_size):
            paths = order[start : start + batch_size]
            results = dict(zip(paths, pool.map(attempt, paths)))
            failures = [result for result in results.values() if isinstance(result, DataError)]
            read = {path: result for path, result in results.items() if isinstance(result, list)}
            columns = zip(resizes, zip(*read.values()))
            yield list(read), failures, {resize: crop(list(pixels), resize.image_size) for resize, pixels in columns}


def chosen_threshold(model: Classifier, target: float, origin: str) -> Threshold:
    """Return the confidence from which answers of `model`, loaded from `origin`, are right in a share of `target`.

    Raises:
        UsageError: the checkpoint holds no held-out images, or none on which `target` is reached.
    """
    if model.calibration is None:
        how = "finetune.py --val_split 0.2 --calibrate, or --folds 5 --calibrate, keeps them in its checkpoints"
        raise UsageError(f"--reject: {origin} knows nothing of held-out images to choose a threshold on; {how}")
    return choose_threshold(model.calibration["confidence"], model.calibration["correct"], target)


def draw(
    file: str | os.PathLike, paths: list[str], rankings: list[Ranking], rejected: Sequence[bool] | None = None
) -> None:
    """Draw the contact sheet with the classes of `rankings`; of more than `SHEET` images so many, evenly spread.

    Of an image that is rejected it says so in place of its classes.
    """
    if rejected is not None:
        rankings = [[("rejected", each[0][1])] if no else each for each, no in zip(rankings, rejected)]
    shown = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), SHEET)).round().astype(int))
    title = f"{len(shown)} of {len(paths)} images" if len(shown) < len(paths) else f"{len(paths)} images"
    tiles = [
        sheet.Tile(paths[i], *rankings[i][0], "/".join(Path(paths[i]).parts[-2:]), more=rankings[i][1:]) for i in shown
    ]
    sheet.contact_sheet(file, title, tiles)

"""A checkpoint used from Python: `Classifier.load(FILE).predict(IMAGES)`, with the numbers of `predict.py`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from checkpoints import classifier
from datasets.decoder import Source
from evaluation import prediction
from evaluation.prediction import Given
from evaluation.predictions import Predictions
from utils.errors import DataError, UsageError

BYTES = (bytes, bytearray, memoryview)
ACCEPTED = "a path, the bytes of an image file, an image of Pillow and an array uint8 [H, W, 3] in RGB order"


class Classifier(classifier.Classifier):
    """A checkpoint, or a published network with its own head, ready to label images."""

    def predict(self, images: Any, batch_size: int | None = None, reject: float | None = None) -> Predictions:
        """Return the labels of `images`, a row for each in their order, the numbers of `predict.py` to the bit.

        Args:
            images: one of these or several in a list: the path of an image, or of a folder for all images in it; the
                bytes of an image file; an array uint8 [H, W, 3] in RGB order (OpenCV's is BGR: `array[..., ::-1]`);
                an image of Pillow, turned as its EXIF data say if the checkpoint's images were. An array uint8
                [N, H, W, 3] is N images. In a folder, images that cannot be read are left out with a warning.
            batch_size: how many are labelled at a time, which can change the last bits; by default as in training.
            reject: name no class where it is uncertain, so that of the others this share is right.

        Raises:
            DataError: an image, or what was given for one, cannot be read; a path does not exist.
            UsageError: `batch_size` or `reject` is out of range, or the checkpoint was not calibrated.
        """
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: accepted are whole numbers from 1")
        threshold = None
        if reject is not None:
            if not 0 < reject < 1:
                raise UsageError(f"reject {reject}: accepted is a share above 0 and below 1")
            threshold = prediction.chosen_threshold(self, reject, "the checkpoint")
        order, given, sources = _gathered(images)
        return prediction.label([self], given, batch_size, threshold, sources).take(order)


def _gathered(images: Any) -> tuple[list[str], Given, dict[str, Source]]:
    """Return the names of the images in order, each name once as `prediction.find` has them, and what is no file."""
    order: list[str] = []
    given: Given = {}
    sources: dict[str, Source] = {}
    items = _several(images)
    names = {id(item): f"images[{number}]" for number, item in reversed([*enumerate(items)])}  # the same object is one
    for item in items:
        name = names[id(item)]
        if isinstance(item, (str, os.PathLike)):
            path = os.fspath(item)
            found = prediction.find([os.path.join(os.curdir, path) if path.startswith("images[") else path])
        else:
            found, sources[name] = {name: True}, _checked(item, name)
        order += found
        given.update({path: named or given.get(path, False) for path, named in found.items()})
    if not order:
        raise UsageError("no image to label")
    return order, given, sources


def _several(images: Any) -> list[Any]:
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim in (1, 4) else [images]  # of paths, of images
    one = (str, os.PathLike, Image.Image, *BYTES)
    return list(images) if isinstance(images, Iterable) and not isinstance(images, one) else [images]


def _checked(item: Any, name: str) -> Source:
    """Return what `datasets.decoder.opened` takes.

    Raises:
        DataError: `item` is not an image; the message begins with `name`.
    """
    if isinstance(item, BYTES):
        return bytes(item)
    if isinstance(item, Image.Image):
        return item
    what = type(item).__name__
    if isinstance(item, np.ndarray):
        if item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3 and item.size:
            return item
        what = f"an array {item.dtype} {list(item.shape)}"
    raise DataError(f"{name}: {what}; accepted are {ACCEPTED}")

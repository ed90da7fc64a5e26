"""The image sets of a run, from its options: what it trains on and what it is scored on."""

from __future__ import annotations

import hashlib

import numpy as np

from datasets.cache import CachedImages, StreamedImages
from datasets.folder import ImageFolder, same_classes, scan
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from datasets.subsets import hold_out, subset
from utils.errors import DataError, names


def scan_folders(options) -> tuple[Dataset, Dataset]:
    """Find, choose and label the images for training and for evaluation; nothing is decoded yet.

    Raises:
        DataError: a folder, a class or a list is not as it must be.
        UsageError: a subset that cannot be had.
    """
    folder = scan(options.train_dir, "--train_dir")
    chosen, classes = subset(
        folder,
        options.seed,
        rate=options.sample_rate,
        classes=options.sample_classes,
        total=options.sample_total,
        sampling=options.sampling,
        listed=options.sample_list,
    )
    preprocess = Preprocess(options.image_size, options.resize_size, options.keep_aspect)
    store = store_of(folder, preprocess, options)
    train = Dataset.of(store, classes, chosen)
    if options.val_split is not None:
        stays, held = hold_out(train.labels, options.val_split, options.seed)
        return Dataset.of(store, classes, chosen[stays]), Dataset.of(store, classes, chosen[held])
    found = scan(options.eval_dir, "--eval_dir")
    same_classes(found, folder.class_names, "--eval_dir", f"--train_dir {folder.root}")
    return train, Dataset.of(store_of(found, preprocess, options), classes)


def store_of(folder: ImageFolder, preprocess: Preprocess, options) -> StreamedImages:
    """Return the images of `folder`: decoded once and kept in `--cache_dir`, or each time with `--cache off`."""
    if options.cache == "off":
        return StreamedImages(folder, preprocess)
    return CachedImages(folder, preprocess, options.cache_dir)


def decode_once(images: Dataset, title: str) -> None:
    """Decode what is not decoded yet, so that later reads are gathers; streamed images are left for later.

    Raises:
        DataError: images that cannot be read, the first of them with its reason.
    """
    if isinstance(images.store, CachedImages):
        _refuse(images, images.store.prepare(images.positions, title))


def without_unreadable(images: Dataset, title: str) -> tuple[Dataset, list[str]]:
    """Decode the training images; return those that can be read, and a line for each of the others.

    Raises:
        DataError: none can be read.
    """
    failures = images.store.prepare(images.positions, title)
    readable = [position for position in images.positions.tolist() if position not in failures]
    if not readable:
        _refuse(images, failures)
    return Dataset.of(images.store, images.class_names, np.array(readable)), [str(f) for f in failures.values()]


def _refuse(images: Dataset, failures: dict[int, DataError]) -> None:
    if failures:
        first, *others = failures.values()
        more = names((images.store.images.paths[position] for position in list(failures)[1:]), 3)
        raise type(first)(f"{first}; nor {more}" if others else str(first))


def listing(images: Dataset) -> tuple[str, str]:
    """Return the training files, one a line, and the sha256 of that text."""
    text = "".join(f"{path}\n" for path in images.paths)
    return text, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

"""The data sets of a run, from its options: one to train on, one to evaluate on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datasets.cache import CachedImages, StreamedImages
from datasets.folder import ImageFolder, remarks, same_classes, scan
from datasets.groups import by_pattern, parts
from datasets.lists import read_list
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from datasets.subsets import folds, hold_out, subset
from models.network import IMAGENET, PretrainedWith
from utils.errors import DataError, UsageError, names

FEW = 2  # training images of a class below which nothing can be said of it


class DataOptions(Protocol):
    """The options of a run that choose its images, named as the flags of finetune.py."""

    train_dir: str | None
    eval_dir: str | None
    train_list: str | None
    eval_list: str | None
    data_root: str | None
    path_column: str | None
    label_column: str | None
    group_column: str | None
    group_pattern: str | None
    weight_column: str | None
    val_split: float | None
    fold: str | None
    seed: int
    sample_rate: int | None
    sample_classes: str | None
    sample_total: int | None
    sampling: str
    sample_list: str | None
    image_size: int
    resize_size: int
    keep_aspect: bool
    orientation: str
    cache: str
    cache_dir: Path


def labelled(options: Any, split: str, class_names: list[str] | None = None) -> ImageFolder:
    """Return the images of `split`: "train", "eval" or "test", as the options SPLIT_dir and SPLIT_list name them.

    Args:
        options: those two, and `data_root`, `path_column` and `label_column`.
        split: only a folder for training needs an image of every class.
        class_names: the classes that a list may have, in their order; by default all that it has.

    Raises:
        DataError: as `scan` and `read_list`.
    """
    file = getattr(options, f"{split}_list")
    if file is None:
        return scan(getattr(options, f"{split}_dir"), f"--{split}_dir", empty_classes=split != "train")
    columns = options.path_column, options.label_column
    more = (options.group_column, options.weight_column) if split == "train" else ()
    return read_list(file, f"--{split}_list", options.data_root, *columns, class_names, *more)


def choose(folder: ImageFolder, options: DataOptions) -> tuple[np.ndarray, list[str]]:
    """Return the positions and class names of the images of `folder` that the options select; errors as of `subset`."""
    return subset(
        folder,
        options.seed,
        rate=options.sample_rate,
        class_spec=options.sample_classes,
        total=options.sample_total,
        sampling=options.sampling,
        listed=options.sample_list,
    )


def scan_folders(options: DataOptions, trained_with: PretrainedWith = IMAGENET) -> tuple[Dataset, Dataset]:
    """Return the images for training and for evaluation, chosen and labelled; nothing is decoded yet.

    Args:
        options: of the run.
        trained_with: how the images of its pretrained weights were prepared; these are prepared alike.

    Raises:
        DataError: a folder, a class or a list is missing or does not fit the others, or there is a single class.
        UsageError: the options ask for a subset that the folder cannot give.
    """
    folder = labelled(options, "train")
    _refuse_one_class(folder)
    chosen, class_names = choose(folder, options)
    if len(class_names) == 1:
        raise UsageError(f"--sample_classes {options.sample_classes}: a single class; accepted are two or more")
    if options.group_pattern is not None:
        folder = by_pattern(folder, options.group_pattern)
    preprocess = Preprocess(
        image_size=options.image_size,
        resize_size=options.resize_size,
        keep_aspect=options.keep_aspect,
        mean=trained_with.mean,
        std=trained_with.std,
        interpolation=trained_with.interpolation,
        orientation=options.orientation,
    )
    store = store_of(folder, preprocess, options.cache, options.cache_dir)
    train = Dataset.of(store, class_names, chosen)
    held = _held_out(train, options)
    if held is not None:
        stays = Dataset.of(store, class_names, chosen[~held])
        return stays, Dataset.of(store, class_names, chosen[held]) if held.any() else train
    other = labelled(options, "eval", folder.class_names)
    same_classes(other, folder.class_names, "--eval_dir", f"--train_{folder.kind} {folder.origin}")
    evaluation = Dataset.of(store_of(other, preprocess, options.cache, options.cache_dir), class_names)
    if not len(evaluation):
        raise DataError(f"--eval_{other.kind} {other.origin}: no image of {names(class_names)}")
    return train, evaluation


def _held_out(train: Dataset, options: DataOptions) -> np.ndarray | None:
    """Return which images are scored and not trained on, bool [N], none for a fold 0/K; None: those of `eval_dir`."""
    if options.fold is not None:
        number, count = map(int, options.fold.split("/"))
        return _folds(train, count, options.seed) == number - 1
    if options.val_split is None:
        return None
    if train.groups is None:
        _, held = hold_out(train.labels, options.val_split, options.seed, train.class_names)
        return np.isin(np.arange(len(train)), held)
    shares, culprit = (1 - options.val_split, options.val_split), f"--val_split {options.val_split}"
    return parts(train.labels, train.groups, shares, options.seed, culprit, train.class_names) == 1


def _folds(train: Dataset, count: int, seed: int) -> np.ndarray:
    if train.groups is not None:
        return _grouped_folds(train, count, seed)
    single = np.flatnonzero(np.bincount(train.labels) == 1)
    if len(single):
        culprits = names([train.class_names[label] for label in single], 100)
        raise UsageError(f"--folds {count}: accepted are classes of two or more images; one has {culprits}")
    if count > len(train):
        raise UsageError(f"--folds {count}: accepted with {len(train)} images is up to {len(train)}")
    return folds(train.labels, count, seed)


def _grouped_folds(train: Dataset, count: int, seed: int) -> np.ndarray:
    groups = len({*train.groups})
    if count > groups:
        raise UsageError(f"--folds {count}: accepted with {groups} groups is up to {groups}")
    return parts(train.labels, train.groups, [1 / count] * count, seed, f"--folds {count}", train.class_names)


def _refuse_one_class(folder: ImageFolder) -> None:
    if len(folder.class_names) == 1:
        (name,) = folder.class_names
        nested = folder.file is None and len({os.path.dirname(path) for path in folder.paths}) > 1
        hint = f"; are the class folders in {folder.root}/{name}?" if nested else ""
        culprit = f"--train_{folder.kind} {folder.origin}"
        raise DataError(f"{culprit}: a single class, {name}; accepted are two or more{hint}")


def unusual(train: Dataset, evaluation: Dataset) -> list[str]:
    """Return a line for everything that looks like a mistake in the folders but may be meant."""
    scanned = {images.store.images.origin: images.store.images for images in (train, evaluation)}
    lines = [line for folder in scanned.values() for line in remarks(folder)]
    groups = train.store.images.groups
    if groups is not None and len({*groups}) == len(groups):
        lines.append(f"{train.store.images.origin}: every image is a group of its own: nothing is kept together")
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    small = [name for name, count in zip(train.class_names, counts) if count <= FEW]
    if small:
        origin = train.store.images.origin
        lines.append(f"{origin}: {FEW} training images or fewer of {names(small)}: too few to judge by")
    absent = evaluation.classes_without_images
    if absent:
        lines.append(f"{evaluation.store.images.origin}: no image of {names(absent)}: scored without them")
    return lines


def store_of(folder: ImageFolder, preprocess: Preprocess, cache: str, cache_dir: str | Path) -> StreamedImages:
    """Return the images of `folder`: decoded once and kept in `cache_dir`, or each time when `cache` is "off"."""
    if cache == "off":
        return StreamedImages(folder, preprocess)
    return CachedImages(folder, preprocess, cache_dir)


def decode_once(images: Dataset, title: str) -> None:
    """Decode the images that are not in the cache yet, so that later reads are gathers; do nothing without a cache.

    Raises:
        DataError: naming the unreadable images, the first of them with its reason.
    """
    if isinstance(images.store, CachedImages):
        _refuse(images, images.store.prepare(images.positions, title))


def without_unreadable(images: Dataset, title: str) -> tuple[Dataset, list[str]]:
    """Decode the training images; return the readable ones, and one line for each of the others.

    Raises:
        DataError: no image is readable.
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

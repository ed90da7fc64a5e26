"""Read every image before the first step and report problems of the folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from datasets.cache import StreamedImages
from datasets.loader import Dataset
from utils.errors import DataError


def check_data(train: Dataset, evaluation: Dataset, report: Callable[[str], None]) -> None:
    """Read all images of both sets with all cores, and `report` one line per problem.

    Problems are unreadable or truncated images, files that are in both sets, byte for byte, and hidden folders, whose
    images are not used.

    Raises:
        DataError: an evaluation image cannot be read; scores without it would not be comparable.
    """
    unreadable = {}
    for name, images in (("training", train), ("evaluation", evaluation)):
        store = StreamedImages(images.store.images, images.store.preprocess)
        failures = store.prepare(images.positions, f"reading the {name} images")
        unreadable[name] = len(failures)
        for failure in failures.values():
            report(f"check: {failure}")
    scanned = (images.store.images for images in (train, evaluation))
    for root in dict.fromkeys(folder.root for folder in scanned if folder.file is None):
        for folder in hidden_folders(root):
            report(f"check: {folder} is hidden and passed over")
    same = list(duplicates(train, evaluation))
    for pair in same:
        report("check: the same file for training and for evaluation: {} and {}".format(*pair))
    report(
        f"check: {len(train)} training and {len(evaluation)} evaluation images read, "
        f"{sum(unreadable.values())} unreadable, {len(same)} in both"
    )
    if unreadable["evaluation"]:
        raise DataError(
            f"{unreadable['evaluation']} evaluation images cannot be read, listed above; none may be missing"
        )


def duplicates(train: Dataset, evaluation: Dataset) -> Iterator[tuple[str, str]]:
    """Yield pairs of files with the same content, one of each set."""
    known = {value: path for path, value in _digests(train)}
    for path, value in _digests(evaluation):
        if value in known:
            yield known[value], path


def _digests(images: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the path and the digest of every file that can be read."""
    for path, content in zip(images.paths, images.store.contents(images.positions)):
        if content.digest:
            yield os.path.join(images.store.images.root, path), content.digest


def hidden_folders(root: str | os.PathLike) -> list[str]:
    """Return the hidden folders directly in `root` or in one of its class folders."""
    hidden = []
    for base, folders, _ in os.walk(root):
        hidden += [os.path.join(base, name) for name in folders if name.startswith(".")]
        folders[:] = [] if base != str(root) else [name for name in folders if not name.startswith(".")]
    return sorted(hidden)

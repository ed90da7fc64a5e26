"""Read every image before the first step; report what is in the folders, what is wrong there, and draw some of it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import sheet
from datasets.cache import StreamedImages
from datasets.decoder import opened, orientation_of
from datasets.folder import listed
from datasets.loader import Dataset
from utils.errors import DataError, UsageError
from utils.files import same_file
from utils.optional import absent

A_CLASS, ALL = 5, 240  # images of a sheet: of one class, and in all


class Facts(NamedTuple):
    """What the file of an image says of it.

    Attributes:
        size: width and height in pixels, as the file has them.
        mode: Pillow's name of its colour mode.
        orientation: its EXIF orientation as text, "none" without.
    """

    size: tuple[int, int]
    mode: str
    orientation: str


class _Inspected(StreamedImages):
    """Images whose facts are kept, by position, when they are decoded."""

    def __init__(self, images: Dataset) -> None:
        super().__init__(images.store.images, images.store.preprocess)
        self.facts: dict[int, Facts] = {}

    def _decode(self, position: int) -> np.ndarray:
        pixels = super()._decode(position)
        with opened(self._path(position)) as image:
            size, mode = image.size, image.mode
            try:
                orientation = orientation_of(image)
            except Exception:  # of any kind: the pixels are sound
                orientation = "damaged"
        self.facts[int(position)] = Facts(size, mode, "none" if orientation is None else str(orientation))
        return pixels


def check_data(
    train: Dataset, evaluation: Dataset, report: Callable[[str], None], picture: str | os.PathLike | None = None
) -> None:
    """Read all images of both sets with all cores, and `report` what there is, a line at a time.

    That is what cannot be read; the images of each class; the smallest and the largest, colour modes and orientations;
    what was passed over; and the same content in both sets, or in two classes.

    Args:
        train: the images to train on.
        evaluation: those to score.
        report: takes each line.
        picture: a PNG to write, with a few training images of each class; None for none.

    Raises:
        DataError: an evaluation image cannot be read; scores without it would not be comparable.
        UsageError: `picture` is one of the images.
    """
    lines, unreadable, facts = [], {}, {}
    for name, images in (("training", train), ("evaluation", evaluation)):
        store = _Inspected(images)
        failures = store.prepare(images.positions, f"reading the {name} images")
        lines += map(str, failures.values())
        unreadable[name], facts[name] = len(failures), store.facts
    lines += [*_passed_over(train, evaluation), *_counts(train, evaluation)]
    for name, images in (("training", train), ("evaluation", evaluation)):
        lines += _about(name, images, facts[name])
    same = list(duplicates(train, evaluation))
    lines += ["the same file for training and for evaluation: {} and {}".format(*pair) for pair in same]
    lines += _contradictions(train, evaluation)
    lines.append(
        f"{len(train)} training and {len(evaluation)} evaluation images read, "
        f"{sum(unreadable.values())} unreadable, {len(same)} in both"
    )
    for line in lines:
        report(f"check: {line}")
    if picture is not None:
        report(f"check: {draw(picture, train, facts['training'])}")
    if unreadable["evaluation"]:
        raise DataError(
            f"{unreadable['evaluation']} evaluation images cannot be read, listed above; none may be missing"
        )


def _passed_over(train: Dataset, evaluation: Dataset) -> Iterator[str]:
    scanned = {images.store.images.origin: images.store.images for images in (train, evaluation)}
    for folder in scanned.values():
        if folder.left_out:
            yield f"{folder.origin}: left out: {listed(folder.left_out)}"
    for root in dict.fromkeys(folder.root for folder in scanned.values() if folder.file is None):
        for hidden in hidden_folders(root):
            yield f"{hidden} is hidden and passed over"


def _counts(train: Dataset, evaluation: Dataset) -> Iterator[str]:
    first, second = (np.bincount(each.labels, minlength=len(train.class_names)) for each in (train, evaluation))
    for name, *numbers in zip(train.class_names, first, second):
        yield "class {}: {} training and {} evaluation images".format(name, *numbers)
    few, many = first.min(), first.max()
    yield f"{len(first)} classes, {few if few == many else f'{few} to {many}'} training images in each"


def _about(name: str, images: Dataset, facts: dict[int, Facts]) -> Iterator[str]:
    """Yield the extremes and the kinds of the images that could be read."""
    if not facts:
        return
    ordered = sorted(facts, key=lambda position: (facts[position].size[0] * facts[position].size[1], position))
    extremes = zip(("smallest", "largest"), (ordered[0], ordered[-1]))
    texts = [
        "{}: {} x {} pixels, {}".format(word, *facts[place].size, images.store.images.paths[place])
        for word, place in extremes
    ]
    yield f"{name} images: {'; '.join(texts)}"
    for title, values in (("colour modes", "mode"), ("EXIF orientations", "orientation")):
        counted = Counter(getattr(each, values) for each in facts.values())
        yield f"{name} images: {title}: {', '.join(f'{value} ({count})' for value, count in counted.most_common())}"


def duplicates(train: Dataset, evaluation: Dataset) -> Iterator[tuple[str, str]]:
    """Yield pairs of files with the same content, one of each set; none where both are one set, as in fold 0/K."""
    if train is evaluation:
        return
    known = {value: path for path, _, value in _digests(train)}
    for path, _, value in _digests(evaluation):
        if value in known:
            yield known[value], path


def _contradictions(train: Dataset, evaluation: Dataset) -> Iterator[str]:
    """Yield a line for each content that is in two classes, and one for the copies within the training classes."""
    holders: dict[str, dict[str, str]] = defaultdict(dict)
    copies = 0
    for images in (train,) if train is evaluation else (train, evaluation):
        seen = set()
        for path, name, value in _digests(images):
            copies += images is train and (name, value) in seen
            seen.add((name, value))
            holders[value].setdefault(name, path)
    for classes in holders.values():
        if len(classes) > 1:
            held = " and ".join(f"{path} ({name})" for name, path in classes.items())
            yield f"the same content in {len(classes)} classes: {held}"
    if copies:
        yield f"{copies} training images are copies of others of their class"


def _digests(images: Dataset) -> Iterator[tuple[str, str, str]]:
    """Yield the path, the class and the digest of every file that can be read."""
    for path, label, content in zip(images.paths, images.labels, images.store.contents(images.positions)):
        if content.digest:
            yield os.path.join(images.store.images.root, path), images.class_names[label], content.digest


def hidden_folders(root: str | os.PathLike) -> list[str]:
    """Return the hidden folders directly in `root` or in one of its class folders."""
    hidden = []
    for base, folders, _ in os.walk(root):
        hidden += [os.path.join(base, name) for name in folders if name.startswith(".")]
        folders[:] = [] if base != str(root) else [name for name in folders if not name.startswith(".")]
    return sorted(hidden)


def draw(picture: str | os.PathLike, train: Dataset, readable: dict[int, Facts]) -> str:
    """Draw a few `readable` images of each class of `train`, a class after the other; return a line on that.

    Raises:
        UsageError: `picture` is one of the images.
    """
    lacking = absent("matplotlib")
    if lacking:
        return f"no picture of the images: {lacking}"
    root, count = train.store.images.root, len(train.class_names)
    if same_file(picture, (root / path for path in train.paths)):
        raise UsageError(f"--check_data would replace the image {picture}; give another --name or --save")
    each, tiles = max(1, min(A_CLASS, ALL // count)), []
    shown = np.unique(np.linspace(0, count - 1, min(count, ALL)).round().astype(int))
    for label in shown:
        positions = [place for place in train.positions[train.labels == label].tolist() if place in readable]
        chosen = np.unique(np.linspace(0, len(positions) - 1, min(len(positions), each)).round().astype(int))
        paths = [train.store.images.paths[positions[i]] for i in chosen]
        row = [sheet.Tile(root / path, train.class_names[label], None, Path(path).name) for path in paths]
        tiles += [*row, *[None] * (each - len(row))]
    part = f", {len(shown)} of them here" if len(shown) < count else ""
    title = f"{root}: {len(train)} training images of {count} classes{part}"
    sheet.contact_sheet(picture, title, tiles, each if count <= ALL // 2 // A_CLASS else 10 // each * each)
    return f"{Path(picture)}: a few training images of each class"

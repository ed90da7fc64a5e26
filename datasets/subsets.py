"""Subsets of a training folder: which classes, and which images of each.

Stratified subsets are nested (15 % within 30 % within 50 %), and the rank of an image depends only on the seed, its
class and the names in its class folder: not on the file system or on the other classes. The authors' rule, one shuffle
over all images regardless of class, is available too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from datasets.folder import ImageFolder
from utils.errors import DataError, UsageError, names


def pick_classes(num_classes: int, kept: int, seed: int) -> list[int]:
    """Return `kept` of `num_classes` class ids in the order drawn; a smaller draw is a prefix of a larger one."""
    return np.random.RandomState(seed).permutation(num_classes)[:kept].tolist()


def by_class(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Return the positions of each label that occurs in `labels` [N], ascending in both; sorts once."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    return {int(label): rows for label, rows in zip(present, np.split(order, starts[1:]))}


def ordered(positions: list[int], class_id: int, seed: int) -> list[int]:
    """Return the positions of one class in the random order of which every subset is a prefix."""
    return [positions[i] for i in np.random.RandomState([seed, class_id]).permutation(len(positions))]


def by_rate(groups: dict[int, list[int]], percent: int, seed: int) -> list[int]:
    """Return ceil(percent / 100 * n) of the n images of every class."""
    return [i for c, group in groups.items() for i in ordered(group, c, seed)[: -(-len(group) * percent // 100)]]


def by_total(groups: dict[int, list[int]], class_ids: list[int], total: int, seed: int) -> list[int]:
    """Return `total` images spread evenly over `class_ids`; the first total % k classes get one more.

    Raises:
        UsageError: fewer images than classes, or more than the smallest class can give.
    """
    each, more = divmod(total, len(class_ids))
    chosen = [i for k, c in enumerate(class_ids) for i in ordered(groups[c], c, seed)[: each + (k < more)]]
    if len(chosen) != total or total < len(class_ids):
        count, smallest = len(class_ids), min(len(group) for group in groups.values())
        raise UsageError(f"--sample_total {total} over {count} classes: accepted are {count} to {count * smallest}")
    return chosen


def author(count: int, percent: int, seed: int) -> list[int]:
    """Return the first 1 + int(percent / 100 * count) of all images in one shuffled order: the authors' rule."""
    shuffled = list(range(count))
    random.Random(seed).shuffle(shuffled)
    return shuffled[: 1 + int(percent / 100 * count)]


def class_count(class_spec: str, num_classes: int) -> int:
    """Return how many of `num_classes` classes `class_spec`, a number or a percentage such as `25%`, asks for.

    Raises:
        UsageError: it is neither, or outside of 1 to `num_classes`.
    """
    digits = class_spec[:-1] if class_spec.endswith("%") else class_spec
    kept = int(digits) if digits.isdecimal() and len(digits) < 20 else 0
    if class_spec.endswith("%"):
        kept = -(-num_classes * kept // 100)
    if not 1 <= kept <= num_classes:
        raise UsageError(f"--sample_classes {class_spec:.60}: accepted are 1 to {num_classes}, or 1% to 100%")
    return kept


def subset(
    images: ImageFolder,
    seed: int,
    rate: int | None = None,
    class_spec: str | None = None,
    total: int | None = None,
    sampling: str = "stratified",
    listed: str | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Choose training images.

    Args:
        images, seed: every image of the training folder; the seed of the draw.
        rate: percent of each class (stratified) or of all images (author).
        class_spec: how many classes, in the form that `class_count` accepts.
        total: how many images in all.
        sampling: "stratified" or "author".
        listed: a file of paths relative to the folder, one per line, instead of a draw.

    Returns:
        The sorted positions in `images`, int64, and the names of the chosen classes, sorted.

    Raises:
        UsageError, DataError: contradictory options, more than there is, or a path that is not in the folder.
    """
    class_ids = list(range(len(images.class_names)))
    if class_spec is not None:
        class_ids = pick_classes(len(class_ids), class_count(class_spec, len(class_ids)), seed)
    _refuse_contradictions(rate, total, sampling, listed)
    rows = by_class(images.labels)
    groups = {c: rows[c].tolist() if c in rows else [] for c in sorted(class_ids)}
    chosen = available = [position for group in groups.values() for position in group]
    if listed is not None:
        chosen = _listed(images, listed, set(available))
    elif total is not None:
        chosen = by_total(groups, class_ids, total, seed)
    elif sampling == "author":
        chosen = [available[i] for i in author(len(available), rate, seed)]
    elif rate is not None:
        chosen = by_rate(groups, rate, seed)
    return np.array(sorted(chosen), dtype="int64"), [images.class_names[c] for c in groups]


def _refuse_contradictions(rate: int | None, total: int | None, sampling: str, listed: str | None) -> None:
    if sum(option is not None for option in (rate, total, listed)) > 1:
        raise UsageError("--sample_rate, --sample_total and --sample_list: give one of them")
    if sampling == "author" and rate is None:
        raise UsageError("--sampling author needs --sample_rate")


def _listed(images: ImageFolder, path: str, allowed: set[int]) -> list[int]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:  # Windows' editors write such a mark
            lines = [line.rstrip("\n") for line in file]
    except OSError as error:
        raise DataError(f"--sample_list {path}: {error.strerror}") from None
    known = {name: position for position, name in enumerate(images.paths) if position in allowed}
    wanted = [_known(line, known) for line in lines if line.strip()]
    unknown = [line for line in wanted if line not in known]
    if unknown or not wanted:
        raise DataError(
            f"--sample_list {path}: {'not in ' + str(images.root) if unknown else 'empty'} {names(unknown)}"
        )
    if len(set(wanted)) != len(wanted):
        raise DataError(f"--sample_list {path}: a path is listed twice")
    return [known[line] for line in wanted]


def _known(line: str, known: dict[str, int]) -> str:
    """Return the path of a line: as it stands, or without blanks around it, or of a list made on Windows with `/`."""
    forms = line, line.strip(), line.strip().replace("\\", "/")
    return next((form for form in forms if form in known), forms[1])


def folds(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the fold of each image, int64 [N] from 0 to `count` - 1: each class is spread evenly over the folds.

    Neither the sizes of the folds nor the images that a class has in each differ by more than one.
    """
    found, dealt = np.empty(len(labels), dtype="int64"), 0
    for label, positions in by_class(labels).items():
        found[ordered(positions.tolist(), label, seed)] = (dealt + np.arange(len(positions))) % count
        dealt += len(positions)
    return found


def hold_out(
    labels: np.ndarray, fraction: float, seed: int, class_names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Split off round(fraction * n) of the n images of each class, at least 1 and at most n - 1.

    Args:
        labels: of the images, int [N].
        fraction: the share of each class.
        seed: of the draw.
        class_names: by label, for the message; without them it has the labels.

    Returns:
        The rows that stay and the rows held out, both sorted, int64.

    Raises:
        UsageError: naming the classes that have a single image.
    """
    single = np.flatnonzero(np.bincount(labels) == 1)
    if len(single):
        culprits = names([class_names[label] if len(class_names) else label for label in single], 100)
        raise UsageError(f"--val_split {fraction}: accepted are classes of two or more images; one has {culprits}")
    held = []
    for label, positions in by_class(labels).items():
        rows = positions.tolist()
        held += ordered(rows, label, seed)[-min(max(round(fraction * len(rows)), 1), len(rows) - 1) :]
    held = np.array(sorted(held), dtype="int64")
    return np.setdiff1d(np.arange(len(labels)), held), held

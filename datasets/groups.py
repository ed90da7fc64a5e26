"""Groups of images, such as several pictures of one thing, that no split may part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datasets.folder import ImageFolder
from utils.commandline import shortened
from utils.errors import DataError, UsageError, names


def by_pattern(images: ImageFolder, pattern: str) -> ImageFolder:
    """Return the images with groups: what the first group of `pattern` finds in their paths, which have `/`.

    Raises:
        DataError: naming the paths in which it finds nothing.
    """
    found = [re.search(pattern, path) for path in images.paths]
    groups = [match[1] if match else None for match in found]
    missed = [path for path, group in zip(images.paths, groups) if not group]
    if missed:
        culprit = f"--group_pattern {shortened(pattern)}"
        raise DataError(
            f"{culprit}: it finds no name in {len(missed)} of {len(groups)} paths of {images.origin}: {names(missed)}"
        )
    return replace(images, groups=groups)


def parts(
    labels: np.ndarray,
    groups: Sequence[str],
    shares: Sequence[float],
    seed: int,
    culprit: str,
    class_names: Sequence[str],
) -> np.ndarray:
    """Split images so that each group is in one part and no part has all images of a class.

    The groups are dealt largest first, equally large ones in random order, each to the part in which it adds least to

        sum_f 1 / s_f sum_k (n_fk / N_k)^2,   part f of share s_f with n_fk of the N_k images of class k

    which is smallest where every part has its share of every class; among equal ones to the emptiest part.

    Args:
        labels: of the images, int [N], positions in `class_names`.
        groups: of the images, N names.
        shares: of the parts, which sum to 1.
        seed: of the order of equally large groups.
        culprit: the flag and its value, for messages.
        class_names: for messages.

    Returns:
        The part of each image, int64 [N]; none of as many equal parts as there are groups, or fewer, is empty.

    Raises:
        UsageError: a class is in a single group, or no such split was found.
    """
    present, label = np.unique(labels, return_inverse=True)
    known, group = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    counts = np.zeros((len(known), len(present)), dtype="int64")
    np.add.at(counts, (group, label), 1)
    single = present[(counts > 0).sum(axis=0) == 1]
    if len(single):
        raise UsageError(
            f"{culprit}: accepted are classes with images in two or more groups; in one are all of "
            f"{names([class_names[each] for each in single])}"
        )
    order = np.random.RandomState(seed).permutation(len(known))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    found = _dealt(counts, order, np.asarray(shares, dtype="float64"))
    if found is None:
        raise UsageError(f"{culprit}: no split found that parts no group and holds out no class; try another --seed")
    return found[group]


def _dealt(counts: np.ndarray, order: np.ndarray, shares: np.ndarray) -> np.ndarray | None:
    """Return the part of each group, int64 [G], of `counts` [G, K] images a class; None where a group fits in none."""
    total, left = counts.sum(axis=0), (counts > 0).sum(axis=0)
    filled, found = np.zeros((len(shares), counts.shape[1]), dtype="int64"), np.empty(len(counts), dtype="int64")
    for each in order:
        count = counts[each]
        left = left - (count > 0)
        whole = (filled + count == total) & (count > 0) & (left == 0)  # the part would have all images of the class
        added = ((2 * filled + count) * count / total**2).sum(axis=1) / shares
        added[whole.any(axis=1)] = np.inf
        part = np.lexsort((filled.sum(axis=1) / shares, added.round(12)))[0]
        if np.isinf(added[part]):
            return None
        filled[part] += count
        found[each] = part
    return found

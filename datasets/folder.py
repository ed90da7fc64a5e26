"""A folder of class folders of images, scanned once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.errors import DataError, names

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class ImageFolder:
    """Labelled images by path.

    Attributes:
        root: the folder they were found in.
        class_names: sorted; a label is a position in this list.
        paths: the files, relative to `root`, sorted by class and name.
        labels: int64 [N].
    """

    root: Path
    class_names: list[str]
    paths: list[str]
    labels: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, positions) -> ImageFolder:
        """Return the images at `positions`, in their order, with the same classes."""
        return ImageFolder(self.root, self.class_names, [self.paths[i] for i in positions], self.labels[positions])


def scan(root: str | os.PathLike, flag: str = "") -> ImageFolder:
    """Find the images of every class folder of `root`, at any depth below it.

    Hidden files and folders are passed over; a class is a folder's name, classes are sorted by name.

    Args:
        root: the folder of class folders.
        flag: the option the folder came from, named in messages.

    Raises:
        DataError: `root` is no folder, holds no class folder, or a class folder holds no image.
    """
    root = Path(root)
    culprit = f"{flag} {root}".strip()
    if not root.is_dir():
        raise DataError(f"{culprit}: {'not a folder' if root.exists() else 'no such folder'}")
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise DataError(f"{culprit}: no class folders in it; expected is {root}/CLASS/IMAGE.jpg")
    paths, labels, empty = [], [], []
    for label, name in enumerate(classes):
        images = (path for path in files_below(root / name) if path.name.lower().endswith(EXTENSIONS))
        found = sorted(os.path.relpath(path, root) for path in images)
        paths += found
        labels += [label] * len(found)
        if not found:
            empty.append(name)
    if not paths:
        raise DataError(f"{culprit}: no images in its {len(classes)} class folders; known are {' '.join(EXTENSIONS)}")
    if empty:
        raise DataError(f"{culprit}: no image of {names(empty)}; known are {' '.join(EXTENSIONS)}")
    return ImageFolder(root, classes, paths, np.asarray(labels, dtype="int64"))


def files_below(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield the files below `folder` by sorted name; links are followed, hidden files and folders passed over.

    Raises:
        DataError: a folder cannot be read.
    """
    seen = set()
    for base, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base, name) for name in sorted(files) if not name.startswith("."))


def _unreadable(error: OSError):
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")


def same_classes(found: ImageFolder, classes: list[str], flag: str, of: str, or_more: bool = False) -> None:
    """Check that `found` has exactly the classes of `of`, so that labels mean the same; or at least those, `or_more`.

    Raises:
        DataError: naming the folder and the classes that are missing or unknown.
    """
    missing = [name for name in classes if name not in set(found.class_names)]
    unknown = [] if or_more else [name for name in found.class_names if name not in set(classes)]
    if missing or unknown:
        parts = [f"without {names(missing)}"] if missing else []
        parts += [f"with the unknown {names(unknown)}"] if unknown else []
        raise DataError(f"{flag} {found.root}: not the classes of {of}: {' and '.join(parts)}")

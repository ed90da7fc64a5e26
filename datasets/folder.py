"""A folder of class folders of images, scanned once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.errors import DataError, distinguishable, names

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class ImageFolder:
    """Labelled images by path.

    Attributes:
        root: the folder that was scanned.
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

    def select(self, positions: np.ndarray | list[int]) -> ImageFolder:
        """Return the images at `positions`, in their order, with the same classes."""
        return ImageFolder(self.root, self.class_names, [self.paths[i] for i in positions], self.labels[positions])


def scan(root: str | os.PathLike, flag: str = "") -> ImageFolder:
    """Return the images in every class folder of `root`, at any depth, without hidden files and folders.

    Args:
        root: the folder of class folders.
        flag: the option that named the folder, for messages.

    Raises:
        DataError: `root` is not a folder or has no class folder, or a class folder has no image.
    """
    root = Path(root)
    culprit = f"{flag} {root}".strip()
    if not root.is_dir():
        raise DataError(f"{culprit}: {'not a folder' if root.exists() else 'no such folder'}")
    class_names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise DataError(f"{culprit}: no class folders in it; expected is {root}/CLASS/IMAGE.jpg")
    paths, labels, empty = [], [], []
    for label, name in enumerate(class_names):
        images = (path for path in files_below(root / name) if path.name.lower().endswith(EXTENSIONS))
        found = sorted(os.path.relpath(path, root) for path in images)
        paths += found
        labels += [label] * len(found)
        if not found:
            empty.append(name)
    if not paths:
        raise DataError(f"{culprit}: no images in {len(class_names)} class folders; known are {' '.join(EXTENSIONS)}")
    if empty:
        raise DataError(f"{culprit}: no image of {names(empty)}; known are {' '.join(EXTENSIONS)}")
    return ImageFolder(root, class_names, paths, np.asarray(labels, dtype="int64"))


def files_below(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield the files below `folder`, sorted by name; follow links, skip hidden files and folders.

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


def _unreadable(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")


def same_classes(images: ImageFolder, class_names: list[str], flag: str, of: str, or_more: bool = False) -> None:
    """Check that `images` have exactly the classes of `of`, so that labels mean the same, or with `or_more` at least.

    Raises:
        DataError: naming the folder and the classes that are missing or unknown; names that look the same, as with
            composed and decomposed letters, are shown with escapes.
    """
    missing = [name for name in class_names if name not in set(images.class_names)]
    unknown = [] if or_more else [name for name in images.class_names if name not in set(class_names)]
    if missing or unknown:
        shown = distinguishable([*missing, *unknown])
        differences = [f"without {names(shown[: len(missing)])}"] if missing else []
        differences += [f"with the unknown {names(shown[len(missing) :])}"] if unknown else []
        raise DataError(f"{flag} {images.root}: not the classes of {of}: {' and '.join(differences)}")

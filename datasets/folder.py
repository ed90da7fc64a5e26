"""A folder of class folders of images, scanned once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datasets import heif
from utils.errors import DataError, distinguishable, names
from utils.system import slashes

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
SYSTEM_FOLDERS = {
    "@eaDir",
    "#recycle",
    "@Recycle",
    "__MACOSX",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
}
_CLUTTER = {"Thumbs.db", "desktop.ini"}
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval"}


@dataclass(frozen=True)
class ImageFolder:
    """Labelled images by path.

    Attributes:
        root: the folder that was scanned, or that the paths of a list are relative to.
        class_names: sorted; a label is a position in this list.
        paths: the files, relative to `root`, with `/` on every system, sorted by class and name.
        labels: int64 [N].
        left_out: how many files and folders were passed over, by a description of them.
        file: the list that names images and labels; None where the class folders do.
        groups: the group of each image, which no split parts; None without.
        weights: what the loss of each image is multiplied by in training, float32 [N]; None for 1.
    """

    root: Path
    class_names: list[str]
    paths: list[str]
    labels: np.ndarray = field(repr=False)
    left_out: Counter[str] = field(default_factory=Counter, repr=False)
    file: Path | None = None
    groups: list[str] | None = field(default=None, repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def origin(self) -> Path:
        """The list or the folder, for messages."""
        return self.file or self.root

    @property
    def kind(self) -> str:
        """How the flags end that name it: "list" or "dir"."""
        return "list" if self.file else "dir"

    def key(self, position: int) -> str:
        """Return what tells an image from others: its path, and its class and weight where a list has them."""
        path = self.paths[position]
        weight = "" if self.weights is None else f"\0{float(self.weights[position])}"
        return f"{path}\0{self.class_names[self.labels[position]]}{weight}" if self.file else path

    def select(self, positions: np.ndarray | list[int]) -> ImageFolder:
        """Return the images at `positions`, in their order, with the same classes."""
        paths = [self.paths[i] for i in positions]
        groups = self.groups and [self.groups[i] for i in positions]
        weights = None if self.weights is None else self.weights[positions]
        labels = self.labels[positions]
        return replace(self, paths=paths, labels=labels, left_out=Counter(), groups=groups, weights=weights)


def scan(root: str | os.PathLike, flag: str = "", empty_classes: bool = False) -> ImageFolder:
    """Return the images in every class folder of `root`, at any depth, without hidden files and folders.

    Args:
        root: the folder of class folders.
        flag: the option that named the folder, for messages.
        empty_classes: accept class folders without an image, as long as there is an image in one of them.

    Raises:
        DataError: `root` is not a folder or has no class folder, or a class folder has no image.
    """
    root = Path(root)
    culprit = f"{flag} {root}".strip()
    if not root.is_dir():
        raise DataError(f"{culprit}: {'not a folder' if root.exists() else 'no such folder'}")
    left_out: Counter[str] = Counter()
    class_names = _class_folders(root, left_out)
    if not class_names:
        raise DataError(f"{culprit}: no class folders in it; expected is {root}/CLASS/IMAGE.jpg")
    paths, labels, empty = [], [], []
    for label, name in enumerate(class_names):
        found = sorted(slashes(os.path.relpath(path, root)) for path in images_below(root / name, left_out))
        paths += found
        labels += [label] * len(found)
        if not found:
            empty.append(name)
    left_out = +left_out  # without the zeros
    known = f"known are {' '.join(EXTENSIONS)}" + (f"; left out: {listed(left_out)}" if left_out else "")
    if not paths:
        raise DataError(f"{culprit}: no images in {len(class_names)} class folders; {known}")
    if empty and not empty_classes:
        raise DataError(f"{culprit}: no image of {names(empty)}; {known}")
    return ImageFolder(root, class_names, paths, np.asarray(labels, dtype="int64"), left_out)


def _class_folders(root: Path, left_out: Counter[str]) -> list[str]:
    try:
        entries = sorted(os.listdir(root))
    except OSError as error:
        _unreadable(error)
    folders = [name for name in entries if os.path.isdir(root / name)]
    left_out["images outside of the class folders"] += sum(map(is_image, {*entries} - {*folders}))
    return [name for name in folders if not _ignored(name, left_out)]


def remarks(folder: ImageFolder) -> list[str]:
    """Return a line on what the scan of `folder` passed over, and one if it looks like the folder above the classes."""
    lines = [f"{folder.origin}: left out: {listed(folder.left_out)}"] if folder.left_out else []
    if folder.file is None and {name.lower() for name in folder.class_names} <= SPLITS:
        lines.append(f"{folder.root}: its classes are {names(folder.class_names)}; is it the folder above the classes?")
    return lines


def listed(left_out: Counter[str]) -> str:
    """Return the numbers and descriptions of what was left out as text, the most first."""
    return names([f"{count} {what}" for what, count in left_out.most_common()])


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image: HEIC and AVIF where they are read."""
    kind = heif.of_name(name)
    return name.lower().endswith(EXTENSIONS) if kind is None else heif.decoder(kind) is not None


def images_below(folder: str | os.PathLike, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the images among `files_below`; count the other files, by their endings, in `left_out`.

    Raises:
        DataError: a folder cannot be read.
    """
    left_out = Counter() if left_out is None else left_out
    for path in files_below(folder, left_out):
        if is_image(path.name):
            yield path
        elif path.is_symlink() and not path.exists():
            left_out["broken links"] += 1
        elif path.name not in _CLUTTER:
            left_out[_described(path)] += 1


def _described(path: Path) -> str:
    kind, ending = heif.of_name(path.name), path.suffix.lower() or "without an ending"
    return f"{ending} ({heif.KINDS[kind].install} to read {kind})" if kind else ending


def files_below(folder: str | os.PathLike, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the files below `folder`, sorted by name; follow links, skip what is hidden and `SYSTEM_FOLDERS`.

    Skipped folders and images are counted in `left_out`.

    Raises:
        DataError: a folder cannot be read.
    """
    left_out = Counter() if left_out is None else left_out
    seen = set()
    for base, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _ignored(name, left_out))
        hidden = {name for name in files if name.startswith(".")}
        left_out["hidden images"] += sum(map(is_image, hidden))
        yield from (Path(base, name) for name in sorted({*files} - hidden))


def _ignored(folder: str, left_out: Counter[str]) -> bool:
    ignored = folder.startswith(".") or folder in SYSTEM_FOLDERS
    left_out["hidden folders" if folder.startswith(".") else f"folders {folder}"] += ignored
    return ignored


def _unreadable(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")


def same_classes(images: ImageFolder, class_names: list[str], flag: str, of: str, or_more: bool = False) -> None:
    """Check that `images` have the classes of `of`, so that labels mean the same; with `or_more` also others.

    Classes may be missing, for example a rare one of which no image is at hand, but not together with others instead:
    they may be the same under another name.

    Raises:
        DataError: naming the folder and the classes that are missing or unknown; names that look the same, as with
            composed and decomposed letters, are shown with escapes.
    """
    present, wanted = {*images.class_names}, {*class_names}
    missing = [name for name in class_names if name not in present]
    unknown = [name for name in images.class_names if name not in wanted]
    if unknown and (missing or not or_more):
        shown = distinguishable([*missing, *unknown])
        differences = [f"without {names(shown[: len(missing)])}"] if missing else []
        differences += [] if or_more else [f"with the unknown {names(shown[len(missing) :])}"]
        raise DataError(f"{flag} {images.origin}: not the classes of {of}: {' and '.join(differences)}")

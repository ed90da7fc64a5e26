"""What an official data set consists of: its files, its counts, and the lists that say where an image goes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from utils.errors import DataError


@dataclass(frozen=True)
class File:
    """A file to fetch: what is on record of it, and where it is or was."""

    name: str
    address: str = ""
    dead: bool = False
    size: int | None = None
    md5: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        address = f"{self.address}{'  (dead)' if self.dead else ''}" if self.address else "no address on record"
        size = f"{self.size:,} bytes" if self.size else "no exact size on record"
        sums = [f"{kind} {value}" for kind, value in (("md5", self.md5), ("sha256", self.sha256)) if value]
        return "\n      ".join([self.name, address, size, *(sums or ["no sum on record"])])


@dataclass(frozen=True)
class Counts:
    """Numbers of classes and images; least and most images of a class."""

    classes: int
    train: int
    test: int
    train_per_class: tuple[int, int]
    test_per_class: tuple[int, int]

    def __str__(self) -> str:
        train, test = (
            f"{least:,} a class" if least == most else f"{least:,}-{most:,} a class"
            for least, most in (self.train_per_class, self.test_per_class)
        )
        return f"{self.classes:,} classes, {self.train:,} training images ({train}), {self.test:,} test images ({test})"


class Listing:
    """Which image belongs where, as the official lists say.

    Attributes:
        classes: class names in the official order.
        places: image key to ("train" or "test", official class number from 1).
        notes: one line each on what a person should know of these images.
    """

    def __init__(self, classes: list[str], notes: tuple[str, ...] = ()):
        self.classes, self.notes = classes, notes
        self.places: dict[str, tuple[str, int]] = {}

    def add(self, key: str, split: str, number: int, where: str) -> None:
        """Enter one image of the list `where`.

        Raises:
            DataError: there is no such class, or the image was entered before.
        """
        if not 1 <= number <= len(self.classes):
            raise DataError(f"{where}: {key} is of class {number}; accepted are 1 to {len(self.classes)}")
        if key in self.places:
            raise DataError(f"{where}: {key} is listed twice")
        self.places[key] = split, number

    def counts(self) -> Counts:
        """Return what the lists hold."""
        found = Counter(self.places.values())
        numbers = range(1, len(self.classes) + 1)
        train, test = ([found[split, number] for number in numbers] for split in ("train", "test"))
        ranges = [(min(each, default=0), max(each, default=0)) for each in (train, test)]
        return Counts(len(self.classes), sum(train), sum(test), *ranges)

    def targets(self) -> dict[str, str]:
        """Return for each key the path of the image: split, numbered class folder and the name it had.

        Raises:
            DataError: two images of a class have one name, or a name is none that file systems take.
        """
        folders = [f"{i:03}.{name.replace('/', '-')}" for i, name in enumerate(self.classes, 1)]
        targets, keys = {}, {}
        for key, (split, number) in self.places.items():
            targets[key] = target = f"{split}/{folders[number - 1]}/{key.rsplit('/', 1)[-1]}"
            if keys.setdefault(target, key) != key:
                raise DataError(f"{key} and {keys[target]} would both be {target}")
            for part in target.split("/"):
                if not _is_name(part):
                    raise DataError(f"{key}: {part!r} can name no file or folder")
        return targets


def _is_name(part: str) -> bool:
    try:
        return 0 < len(os.fsencode(part)) < 256 and "\0" not in part
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Layout:
    """One way a release is laid out.

    Attributes:
        lists: its list files, each by the end of its path.
        image: a regular expression for the end of an image's path; that end is the image's key.
        read: makes a `Listing` of the lists' contents by name.
    """

    lists: tuple[str, ...]
    image: str
    read: Callable[[dict[str, bytes]], Listing]

    def key(self, name: str) -> str | None:
        """Return the key of the image at the path `name`; None when it is no image of this layout."""
        match = re.fullmatch(f"(?:.*/)?({self.image})", name)
        return match.group(1) if match else None


@dataclass(frozen=True)
class DataSet:
    """A data set: files to fetch (for each release those that belong together), counts, layouts, a common mistake."""

    title: str
    releases: tuple[tuple[File, ...], ...]
    counts: Counts
    layouts: tuple[Layout, ...]
    mistake: str

    def files(self) -> dict[str, File]:
        """Return the files of every release by name."""
        return {file.name: file for release in self.releases for file in release}

    def list_name(self, name: str) -> str | None:
        """Return which list the path `name` is; None when it is none."""
        lists = (end for layout in self.layouts for end in layout.lists)
        return next((end for end in lists if name == end or name.endswith("/" + end)), None)

    def to_fetch(self) -> str:
        """Return where the files are, for a person to read."""
        choices = ["\n".join(f"    {file}" for file in release) for release in self.releases]
        return f"{self.title}: fetch these files, then give them to --archive\n" + "\n  or\n".join(choices)


def lines(lists: dict[str, bytes], name: str) -> list[str]:
    """Return the lines of the list `name`; bytes that are not UTF-8 stay what they were."""
    text = lists[name].decode("utf-8", errors="surrogateescape")
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def table(lists: dict[str, bytes], name: str) -> dict[str, str]:
    """Return a list whose lines are a key, a space and the rest, which may hold spaces itself.

    Raises:
        DataError: naming the line that has no space, or the key that is there twice.
    """
    entries = {}
    for number, line in enumerate(lines(lists, name), 1):
        key, space, rest = line.partition(" ")
        if not (key and space and rest):
            raise DataError(f"{name} line {number}: {line!r}; expected are two words or more")
        if key in entries:
            raise DataError(f"{name} line {number}: {key} is listed twice")
        entries[key] = rest
    return entries


def whole(text: object, where: str) -> int:
    """Return a whole number.

    Raises:
        DataError: it is none.
    """
    try:
        return int(text)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {text!r} is no whole number") from None


def by_folder(train: list[str], test: list[str], key: str, where: str) -> Listing:
    """Return the listing of images named CLASS/IMAGE; classes are numbered in sorted order.

    Args:
        train, test: the names.
        key: the image's key, with {} for the name.
        where: the lists, for messages.

    Raises:
        DataError: a name without a class, or one that is there twice.
    """
    for name in train + test:
        if not re.fullmatch("[^/]+/[^/]+", name):
            raise DataError(f"{where}: {name!r}; expected is CLASS/IMAGE")
    classes = sorted({name.split("/")[0] for name in train + test})
    numbers = {name: number for number, name in enumerate(classes, 1)}
    listing = Listing(classes)
    for split, names in (("train", train), ("test", test)):
        for name in names:
            listing.add(key.format(name), split, numbers[name.split("/")[0]], where)
    return listing


def differences(found: Counts, official: Counts) -> list[str]:
    """Return which numbers differ, one text each."""
    return [
        f"{field.name} {getattr(found, field.name)} instead of {getattr(official, field.name)}"
        for field in fields(Counts)
        if getattr(found, field.name) != getattr(official, field.name)
    ]

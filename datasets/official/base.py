"""The description of an official data set: its files, its counts, and the lists that assign images to classes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from utils.errors import DataError
from utils.system import refused


@dataclass(frozen=True)
class File:
    """A file to fetch: its address, `dead` when it is gone from there, and the known size and checksums."""

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
    """The split and class of each image, read from the official lists.

    Attributes:
        class_names: in the official order.
        places: image key to ("train" or "test", official class number from 1).
        file_names: image key to its name in the class folder, where that is not the last part of the key.
        sums: image key to the sha256 of its content, where one is on record.
        notes: one line per trap of these images, for the user.
    """

    def __init__(self, class_names: list[str], notes: tuple[str, ...] = ()):
        self.class_names, self.notes = class_names, notes
        self.places: dict[str, tuple[str, int]] = {}
        self.file_names, self.sums = dict[str, str](), dict[str, str]()

    def add(self, key: str, split: str, number: int, where: str) -> None:
        """Add one image from the list `where`.

        Raises:
            DataError: the class does not exist, or the image is listed already.
        """
        if not 1 <= number <= len(self.class_names):
            raise DataError(f"{where}: {key} is of class {number}; accepted are 1 to {len(self.class_names)}")
        if key in self.places:
            raise DataError(f"{where}: {key} is listed twice")
        self.places[key] = split, number

    def counts(self) -> Counts:
        """Return the numbers of classes and images in the lists."""
        sizes = Counter(self.places.values())
        train, test = ([sizes[s, i + 1] for i in range(len(self.class_names))] for s in ("train", "test"))
        ranges = [(min(each, default=0), max(each, default=0)) for each in (train, test)]
        return Counts(len(self.class_names), sum(train), sum(test), *ranges)

    def targets(self) -> dict[str, str]:
        """Return the path of each image by key: SPLIT/NUMBER.CLASS/NAME.

        Raises:
            DataError: two images of a class have the same name, or a file system accepts no such name.
        """
        folders = [f"{i:03}.{name.replace('/', '-')}" for i, name in enumerate(self.class_names, 1)]
        targets, keys = {}, {}
        for key, (split, number) in self.places.items():
            targets[key] = target = f"{split}/{folders[number - 1]}/{self.file_names.get(key) or key.split('/')[-1]}"
            if keys.setdefault(target, key) != key:
                raise DataError(f"{key} and {keys[target]} would both be {target}")
            for name in target.split("/"):
                if not _is_file_name(name):
                    raise DataError(f"{key}: {name!r} is not a valid name of a file or folder")
        return targets


def _is_file_name(name: str) -> bool:
    try:
        return 0 < len(os.fsencode(name)) < 256 and "\0" not in name and not refused(name)
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Layout:
    """The layout of a release.

    Attributes:
        lists: its list files, each by the end of its path; none when this project lists the images.
        image: a regular expression for the end of an image's path; that end is the image's key.
        read: parses the contents of the lists, by name, into a `Listing`.
    """

    lists: tuple[str, ...]
    image: str
    read: Callable[[dict[str, bytes]], Listing]

    def key(self, name: str) -> str | None:
        """Return the key of the image at the path `name`; None when it is not an image of this layout."""
        match = re.fullmatch(f"(?:.*/)?({self.image})", name)
        return match.group(1) if match else None


@dataclass(frozen=True)
class Transform:
    """An optional change of every image of a data set.

    Attributes:
        flag: the option of datasets.prepare that asks for it; `prepared.json` records it by this name.
        help: the option's help text.
        note: printed when images stay as they are.
        write: writes the content of an image, changed, to a path.
    """

    flag: str
    help: str
    note: str
    write: Callable[[IO[bytes], Path], None]


@dataclass(frozen=True)
class DataSet:
    """An official data set.

    Attributes:
        title: its name in messages.
        releases: for each release the files that belong together.
        counts: the official numbers of classes and images.
        layouts: the ways its releases are laid out.
        mistake: what usually went wrong when its lists are missing.
        transform: a change of its images that can be asked for.
        write: writes the content of an image to a path, changed; None keeps images as they are.
    """

    title: str
    releases: tuple[tuple[File, ...], ...]
    counts: Counts
    layouts: tuple[Layout, ...]
    mistake: str
    transform: Transform | None = None
    write: Callable[[IO[bytes], Path], None] | None = None

    def files(self) -> dict[str, File]:
        """Return the files of every release by name."""
        return {file.name: file for release in self.releases for file in release}

    def list_name(self, name: str) -> str | None:
        """Return the list that is at the path `name`; None when it is not a list."""
        lists = (end for layout in self.layouts for end in layout.lists)
        return next((end for end in lists if name == end or name.endswith("/" + end)), None)

    def to_fetch(self) -> str:
        """Return a text on where to fetch the files."""
        choices = ["\n".join(f"    {file}" for file in release) for release in self.releases]
        return f"{self.title}: fetch these files, then give them to --archive\n" + "\n  or\n".join(choices)


def lines(lists: dict[str, bytes], name: str) -> list[str]:
    """Return the non-empty lines of the list `name`; bytes that are not UTF-8 are kept as surrogates."""
    text = lists[name].decode("utf-8", errors="surrogateescape")
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def table(lists: dict[str, bytes], name: str) -> dict[str, str]:
    """Return the list `name` as a dictionary; a line is a key, a space and the value, which may contain spaces.

    Raises:
        DataError: a line has no space, or a key is listed twice.
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


def to_int(text: object, where: str) -> int:
    """Return `text`, read in the list `where`, as a whole number.

    Raises:
        DataError: it is not one.
    """
    try:
        return int(text)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {text!r} is not a whole number") from None


def by_folder(train: list[str], test: list[str], key: str, where: str) -> Listing:
    """Return the listing of images named CLASS/IMAGE, with classes numbered in sorted order.

    Args:
        train, test: the names.
        key: the image's key, with {} for the name.
        where: the lists, for messages.

    Raises:
        DataError: a name has no class, or is listed twice.
    """
    for name in train + test:
        if not re.fullmatch("[^/]+/[^/]+", name):
            raise DataError(f"{where}: {name!r}; expected is CLASS/IMAGE")
    class_names = sorted({name.split("/")[0] for name in train + test})
    numbers = {name: number for number, name in enumerate(class_names, 1)}
    listing = Listing(class_names)
    for split, names in (("train", train), ("test", test)):
        for name in names:
            listing.add(key.format(name), split, numbers[name.split("/")[0]], where)
    return listing


def differences(counts: Counts, official: Counts) -> list[str]:
    """Return one text for each number that differs."""
    return [
        f"{field.name} {getattr(counts, field.name)} instead of {getattr(official, field.name)}"
        for field in fields(Counts)
        if getattr(counts, field.name) != getattr(official, field.name)
    ]

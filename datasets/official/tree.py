"""The class folders of a data set under construction, from files in the order of an archive."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tqdm import tqdm

from datasets.official.base import Counts, DataSet, Layout, differences
from datasets.official.building import RECORD
from utils.errors import DataError, UsageError, names
from utils.system import WINDOWS

LONGEST_LIST = 1 << 26  # bytes; the official ones are far below
_WAITING = ".waiting"
_NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_HARD_LINK += (errno.EINVAL,) * WINDOWS  # of a drive that is FAT


def save(content: IO[bytes], path: Path) -> None:
    """Write an image as it is."""
    with open(path, "xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


class Tree:
    """Class folders under construction.

    An image goes to its place as soon as the lists are known; until then it waits under a number.

    Args:
        data_set: the official data set.
        root: an empty folder.
        unverified: accept other counts than the official ones, with a warning, and images with other sums.
        write: writes the content of an image to a path.
    """

    def __init__(
        self, data_set: DataSet, root: Path, unverified: bool, write: Callable[[IO[bytes], Path], None] = save
    ):
        self._data_set, self._root, self._unverified, self._write = data_set, root, unverified, write
        self._lists: dict[str, bytes] = {}
        self._layout: Layout | None = None
        self._targets: dict[str, str] = {}
        self._sums: dict[str, str] = {}
        self._waiting: list[tuple[str, Path]] = []
        self._placed: set[str] = set()
        self.counts: Counts | None = None
        self.notes: list[str] = []
        self.left_out = 0
        self._read_lists()

    def add_list(self, name: str, content: IO[bytes], where: Path) -> None:
        """Add a list; read the lists once a layout is complete.

        Raises:
            DataError: there are two different lists of that name, or the lists or their counts are wrong.
        """
        text = content.read(LONGEST_LIST + 1)
        if len(text) > LONGEST_LIST:
            raise DataError(f"{where}: {name} is longer than {LONGEST_LIST:,} bytes, which no official list is")
        if self._lists.setdefault(name, text) != text:
            raise DataError(f"{where}: its {name} differs from another one in --archive")
        if self._layout is None:
            self._read_lists()

    def add_file(self, name: str, content: IO[bytes], where: Path) -> None:
        """Add a list or an image from an archive; ignore any other file.

        Raises:
            DataError: as `add_list`, or there are two images of that name, or one has another sum than is on record.
        """
        list_name = self._data_set.list_name(name)
        if list_name is not None:
            self.add_list(list_name, content, where)
        elif self._layout is not None:
            self._place(name, lambda path: self._write_image(name, content, path))
        elif any(layout.key(name) for layout in self._data_set.layouts):
            waiting = self._root / _WAITING / str(len(self._waiting))
            waiting.parent.mkdir(exist_ok=True)
            save(content, waiting)
            self._waiting.append((name, waiting))

    def add_path(self, name: str, source: Path, link: str) -> None:
        """Add an image from a folder: a hard or symbolic link, or, with any other `link`, a written file.

        Raises:
            DataError: there are two images of that name, or a written one has another sum than is on record.
            UsageError: the file system cannot make a hard link to it.
        """
        source = Path(os.path.realpath(source))
        if link == "hard":
            self._place(name, lambda path: _hard_link(source, path))
        elif link == "symlink":
            self._place(name, lambda path: os.symlink(source, path))
        else:
            self._place(name, lambda path: self._write_path(name, source, path))

    def missing_lists(self) -> str:
        """Return the missing lists of each layout as text; empty when one layout is complete."""
        if self._layout is not None:
            return ""
        missing = [[name for name in layout.lists if name not in self._lists] for layout in self._data_set.layouts]
        return " or ".join(names(each) for each in missing)

    def finish(self, where: str) -> None:
        """Check that every listed image is in its place.

        Raises:
            DataError: some are missing.
        """
        missing = [key for key in self._targets if key not in self._placed]
        if missing:
            raise DataError(f"{where}: {len(missing):,} listed images are missing: {names(missing)}")

    def _read_lists(self) -> None:
        """Read the lists and place the waiting images, if the lists of a layout are complete."""
        complete = (each for each in self._data_set.layouts if set(each.lists) <= set(self._lists))
        self._layout = next(complete, None)
        if self._layout is None:
            return
        listing = self._layout.read(self._lists)
        self._targets, self.counts, self.notes = listing.targets(), listing.counts(), list(listing.notes)
        self._sums = {} if self._unverified else listing.sums
        self._check_counts()
        self._check_case()
        for name, waiting in self._waiting:
            if not self._place(name, lambda path, name=name, waiting=waiting: self._move(name, waiting, path)):
                waiting.unlink()
        if self._waiting:
            (self._root / _WAITING).rmdir()

    def _check_counts(self) -> None:
        wrong = differences(self.counts, self._data_set.counts)
        if wrong:
            message = f"not the counts of {self._data_set.title}: {'; '.join(wrong)}"
            if not self._unverified:
                raise DataError(f"{message}; --unverified accepts them")
            tqdm.write(f"WARNING: {message}", file=sys.stderr)

    def _check_case(self) -> None:
        if not (self._root / RECORD.upper()).exists():
            return  # the file system is case-sensitive
        by_name = {}
        for target in self._targets.values():
            other = by_name.setdefault(target.casefold(), target)
            if other != target:
                raise DataError(f"{target} and {other} are one name on the file system of --out")

    def _place(self, name: str, write: Callable[[Path], None]) -> bool:
        key = self._layout.key(name)
        if key not in self._targets:
            self.left_out += key is not None
            return False
        if key in self._placed:
            raise DataError(f"there are two images {name}")
        path = self._root / self._targets[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        self._placed.add(key)
        return True

    def _move(self, name: str, waiting: Path, path: Path) -> None:
        if self._write is save:
            os.rename(waiting, path)
        else:
            self._write_path(name, waiting, path)
            waiting.unlink()

    def _write_path(self, name: str, source: Path, path: Path) -> None:
        with open(source, "rb") as content:
            self._write_image(name, content, path)

    def _write_image(self, name: str, content: IO[bytes], path: Path) -> None:
        wanted = self._sums.get(self._layout.key(name))
        if wanted:
            content = io.BytesIO(content.read())
            found = hashlib.sha256(content.getbuffer()).hexdigest()
            if found != wanted:
                reason = f"its sha256 is {found} instead of {wanted}"
                raise DataError(f"{name} is not the image of {self._data_set.title}: {reason}; --unverified accepts it")
        self._write(content, path)


def _hard_link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        reason = os.strerror(error.errno)
        raise UsageError(f"--link hard: no link to {source}: {reason}; accepted are --link copy and symlink") from None

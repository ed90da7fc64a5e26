"""The contents of image files as digests, taken anew only of files that have changed.

Names, sizes and times do not tell two folders apart: an archive may give every file the same time. Digests do, but
reading 10,000 photographs takes seconds, so they are kept beside device, inode, size and times of a file. The change
time cannot be set by hand, except on Windows, which has the time of creation in its place; a file whose times are
younger than `SETTLED` might change once more within their resolution, and is not kept.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from utils.files import digest, write_text

SETTLED = 2_000_000_000  # nanoseconds; no common file system has times coarser than that


class Content(NamedTuple):
    """The content of a file, both empty when it cannot be read.

    Attributes:
        state: device, inode, size, time of modification and of change; different when the file has changed.
        digest: of its bytes.
    """

    state: tuple[int, ...] = ()
    digest: str = ""

    @property
    def key(self) -> str:
        """Its state as text."""
        return " ".join(map(str, self.state))


def read_content(path: str | os.PathLike, known: dict[str, str]) -> Content:
    """Return the content of a file; its digest is that in `known`, by the key of its state, if it is there."""
    try:
        before = Content(_state(path))
        value = known.get(before.key) or digest(path)
        return Content(before.state, value) if _state(path) == before.state else Content()
    except OSError:
        return Content()


def unchanged(path: str | os.PathLike, content: Content) -> bool:
    """Return whether the file still has the state in which its `content` was read."""
    try:
        return _state(path) == content.state
    except OSError:
        return False


def _state(path: str | os.PathLike) -> tuple[int, ...]:
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):  # a pipe or a device may have no end
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def table_path(cache_dir: Path, origin: Path) -> Path:
    """Return the file in which the digests of the images of a folder, or of a list, are kept."""
    return cache_dir / f"{hashlib.sha256(os.fsencode(os.path.realpath(origin))).hexdigest()[:32]}.contents.json"


def load_table(path: Path) -> dict[str, str]:
    """Return the kept digests; none if the file is absent or damaged."""
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    valid = isinstance(table, dict) and all(isinstance(value, str) for value in table.values())
    return table if valid else {}


def save_table(path: Path, contents: Iterable[Content], began: int) -> None:
    """Keep the digests of the files that had settled when reading `began`, in nanoseconds since 1970."""
    settled = [each for each in contents if each.state and each.state[1] and max(each.state[3:]) < began - SETTLED]
    if not settled:
        return
    with contextlib.suppress(OSError):  # without it the files are read again
        write_text(path, json.dumps({each.key: each.digest for each in settled}))

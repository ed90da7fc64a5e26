"""Atomic writes, locks, digests and a cache of arrays."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from filelock import lock_descriptor


def lock(file: IO) -> bool:
    """Lock an open file until it is closed or its process ends; return False if another process holds the lock.

    On a file system without locks nobody is kept out.
    """
    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        return True


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds, flush it to disk and rename it to `path`.

    A missing folder is created. When the block raises, the temporary file is removed and `path` keeps its content.
    Temporary files of `path` that killed processes left behind are removed first.

    Raises:
        OSError: the file cannot be written; `errno` and `filename` are set.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as mark:
            lock(mark)
            os.utime(mark.fileno(), (0, 0))  # writing in the block changes this time
            yield temporary
            with open(temporary, "rb") as file:
                written = os.fstat(file.fileno())
                if not (written.st_size or written.st_mtime):
                    raise FileNotFoundError(errno.ENOENT, "nothing was written to it", str(temporary))
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as failure:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(failure, OSError) and (failure.errno is None or failure.filename is None):  # NumPy sets neither
            raise OSError(failure.errno or errno.EIO, failure.strerror or str(failure), str(path)) from failure
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that no process holds; without locks nobody can tell, so all stay."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), open(leftover, "r+b") as file:
            if lock_descriptor(file.fileno(), blocking=False):
                leftover.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8; bytes of file names that are not UTF-8 are kept."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def digest(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file."""
    value = hashlib.new(algorithm)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            value.update(block)
    return value.hexdigest()


def cached_array(path: str | os.PathLike, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array stored in `path`; compute and store it if the file holds no finite array of `shape`."""
    try:
        array = np.load(path, allow_pickle=False)
        if array.shape == shape and np.isfinite(array).all():
            return array
    except Exception:  # noqa: S110  whatever is wrong with the file, the array can be computed again
        pass
    array = compute()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)
    return array

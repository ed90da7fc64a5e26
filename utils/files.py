"""Files that are either the old one or the whole new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; flush it to disk and rename it when the block ends well.

    The folder is made when it is absent. When the block raises, the temporary file is removed and `path`
    stays as it was. What a killed process left of an earlier attempt at `path` is removed first.

    Raises:
        OSError: the file cannot be written; it has a number and names a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as mark:
            with contextlib.suppress(OSError):  # without locks, nothing can be told to be left over
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(mark.fileno(), (0, 0))  # a time that the block's writing changes
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
        if isinstance(failure, OSError) and (failure.errno is None or failure.filename is None):  # NumPy gives neither
            raise OSError(failure.errno or errno.EIO, failure.strerror or str(failure), str(path)) from failure
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that no process holds: a lock ends with its process, however that ends."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), open(leftover, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8; bytes of file names that are not UTF-8 are kept as they were."""
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
    """Return the array kept in `path`; compute and keep it when there is none of that shape, whole and finite."""
    try:
        array = np.load(path, allow_pickle=False)
        if array.shape == shape and np.isfinite(array).all():
            return array
    except Exception:  # noqa: S110  whatever is wrong with the file, it can be made again
        pass
    array = compute()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)
    return array

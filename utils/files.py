"""Atomic writes, digests and a cache of arrays."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from utils import system
from utils.errors import UsageError
from utils.system import lock


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds, flush it to disk and rename it to `path`.

    A missing folder is created. When the block raises, the temporary file is removed and `path` keeps its content.
    Temporary files of `path` that killed processes left behind are removed first. A link stays a link: its target is
    replaced. A device, a FIFO or an open file such as /dev/stdout stays what it is: the content is written into it.

    Raises:
        OSError: the file cannot be written; `errno` and `filename` are set.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _stream(path)
    if stream is None:
        target = _target(path)
        _remove_leftovers(target)
    else:  # nothing can be renamed there, and perhaps nothing can be written beside it
        target = Path(tempfile.gettempdir()) / path.name
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as mark:
            lock(mark)
            os.utime(temporary, (0, 0))  # writing in the block changes this time
            yield temporary
            with open(temporary, "r+b") as file:  # Windows flushes only what may be written
                written = os.fstat(file.fileno())
                if not (written.st_size or written.st_mtime):
                    raise FileNotFoundError(errno.ENOENT, "nothing was written to it", str(temporary))
                if stream is None:
                    os.fsync(file.fileno())
                else:
                    _pour(file, stream)
            if stream is None:
                if system.WINDOWS:  # which renames nothing that is open
                    mark.close()
                system.rename(temporary, target)
    except BaseException as failure:
        if isinstance(failure, OSError) and (failure.errno is None or failure.filename is None):  # NumPy sets neither
            raise OSError(failure.errno or errno.EIO, failure.strerror or str(failure), str(path)) from failure
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _target(path: Path) -> Path:
    """Return the file that `path` leads to, there or not, in a folder that is there."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():  # links in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _stream(path: Path) -> Path | int | None:
    """Return what the content of `path` is written into when it cannot be replaced, None when it can.

    That is a device, a FIFO or a socket, by its path, or a file that this process holds open, by its number.
    """
    if not path.exists():
        return None
    while True:
        parent = os.path.realpath(path.parent)
        if parent == "/dev/fd" and path.name.isdecimal():  # of macOS, where its entries are no links
            return int(path.name)
        if parent.startswith("/proc/"):
            return int(path.name) if parent == os.path.realpath("/proc/self/fd") else path
        if not path.is_symlink():
            return None if path.is_file() or path.is_dir() else path
        path = Path(parent, os.readlink(path))


def _pour(file: IO, stream: Path | int) -> None:
    """Write the content of `file` into `stream`, after what this process printed before."""
    for printed in (sys.stdout, sys.stderr):
        if printed is not None:
            printed.flush()
    with open(os.dup(stream) if isinstance(stream, int) else stream, "wb") as output:
        shutil.copyfileobj(file, output)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that no process holds; without locks nobody can tell, so all stay."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            with open(leftover, "r+b") as file:
                free = system.take_lock(file.fileno())
                if free and not system.WINDOWS:
                    leftover.unlink()
            if free and system.WINDOWS:  # which removes nothing that is open
                leftover.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8; bytes of file names that are not UTF-8 are kept."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))  # lines end alike on every system


def same_file(path: str | os.PathLike, others: Iterable[str | os.PathLike]) -> str | None:
    """Return which of `others` is the regular file `path` by another name, or by the same; None if none is."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if stat.S_ISREG(status.st_mode):
        for other in others:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(other), status):
                    return os.fspath(other)
    return None


def refuse_inputs(outputs: dict[str, str | os.PathLike], inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse to write an output over an input or over another output, however they are spelled.

    Args:
        outputs: the files to write, by flag.
        inputs: the files that are read.

    Raises:
        UsageError: naming the flag and both files.
    """
    inputs, earlier = list(inputs), {}
    for flag, path in outputs.items():
        read = same_file(path, inputs)
        if read is not None:
            raise UsageError(f"--{flag} {path} would replace {read}, which is read; give another name")
        real = os.path.normcase(os.path.realpath(path))
        if real in earlier and _stream(Path(path)) is None:
            raise UsageError(f"--{flag} {path} would replace --{earlier[real]}; give another name")
        earlier[real] = flag


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

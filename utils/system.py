"""What operating systems do differently: locks, renaming over a file, links, the names of files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from typing import IO

from filelock import lock_descriptor

WINDOWS = os.name == "nt"
PATIENCE = 2.0  # seconds for which a renaming is tried again on Windows
_POLL = 0.05  # seconds between two attempts
_BEYOND = 2**62 - 2  # the place of a byte that no file has
_DEVICE = re.compile(r"(con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])\s*(\.|$)", re.IGNORECASE)
_RESERVED = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def lock(file: IO | int, wait: bool = False) -> bool:
    """Lock an open file until it is closed or its process ends; return False if another process holds the lock.

    On a file system without locks nobody is kept out.

    Args:
        file: the file, or its descriptor.
        wait: wait for the lock instead of returning False.
    """
    number = file if isinstance(file, int) else file.fileno()
    try:
        while not take_lock(number):
            if not wait:
                return False
            time.sleep(_POLL)
    except OSError:
        pass
    return True


def take_lock(number: int) -> bool:
    """Lock the open file of descriptor `number`; return False if another process holds the lock.

    Windows keeps others from reading and writing what is locked, so there the lock is on a byte beyond every content.

    Raises:
        OSError: the file system has no locks.
    """
    if not WINDOWS:
        return lock_descriptor(number, blocking=False)
    import msvcrt

    place = os.lseek(number, 0, os.SEEK_CUR)
    try:
        os.lseek(number, _BEYOND, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EDEADLK):
            raise
        return False
    finally:
        os.lseek(number, place, os.SEEK_SET)
    return True


def rename(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Rename a file, over `target` if that exists, or a folder, over an empty one.

    Windows refuses that as long as any program has one of them open, if only to look for viruses: there it is tried
    again for `PATIENCE` seconds.

    Raises:
        PermissionError: it is in use still, or may not be written; on Windows the error names `target`.
    """
    end = time.monotonic() + PATIENCE
    if WINDOWS and os.path.isdir(source) and os.path.isdir(target):
        os.rmdir(target)  # no folder is renamed over another there
    while True:
        try:
            return os.replace(source, target)
        except PermissionError as error:
            if not WINDOWS:
                raise
            if time.monotonic() >= end:
                reason = "another program has it open, or it may not be written"
                raise PermissionError(error.errno, reason, os.fspath(target)) from None
            time.sleep(_POLL)


def link(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Make `path` a symbolic link to `source`; where that is not allowed, as on most Windows, a hard link or a copy."""
    try:
        os.symlink(source, path)
    except (OSError, NotImplementedError):
        if not WINDOWS:
            raise
        try:
            os.link(source, path)
        except OSError:  # on another drive
            shutil.copy2(source, path)


def refused(name: str) -> bool:
    """Return whether Windows, when this is Windows, accepts no file or folder of this name."""
    return WINDOWS and bool(_DEVICE.match(name) or _RESERVED.search(name) or name.endswith((".", " ")))


def slashes(path: str | os.PathLike) -> str:
    """Return `path` with the `/` of every system but Windows, as lists and checkpoints have it."""
    return os.fspath(path).replace("\\", "/") if WINDOWS else os.fspath(path)


def relative(path: str | os.PathLike) -> str:
    """Return `path` relative to the working directory if it lies below it, else absolute."""
    with contextlib.suppress(ValueError):  # on another drive
        below = os.path.relpath(path)
        if not below.startswith(".."):
            return below
    return os.path.abspath(path)

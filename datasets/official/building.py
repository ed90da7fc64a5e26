"""Atomic folders: built beside the target, renamed to it when complete, recognised later by their record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.archives import folder_files
from utils import system
from utils.errors import DataError, UsageError
from utils.files import write_text

RECORD = "prepared.json"


@contextlib.contextmanager
def building(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, named OUT.partial; rename it to `out` when the block ends well.

    Leftovers of an earlier process are removed first. When the block raises, the folder is removed.

    Raises:
        UsageError: the folder cannot be made, was not made by `building`, or another process works in it.
    """
    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {out}: {error.filename} is not a folder") from None
    with _opened(partial) as descriptor:
        _claim(partial, descriptor)
        try:
            yield partial
            system.rename(partial, out)
        except BaseException:
            _empty(partial)
            (partial / RECORD).unlink(missing_ok=True)
            partial.rmdir()
            raise


@contextlib.contextmanager
def _opened(partial: Path) -> Iterator[int]:
    """Yield the descriptor whose lock claims `partial`: its own, or that of a file beside it on Windows.

    Windows opens no folder, and renames none in which a file is open.
    """
    beside = partial.with_name(f".{partial.name}.lock")
    flags = os.O_RDWR | os.O_CREAT if system.WINDOWS else os.O_RDONLY
    descriptor = os.open(beside if system.WINDOWS else partial, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        if system.WINDOWS:
            with contextlib.suppress(OSError):  # another process has opened it
                beside.unlink()


def _claim(partial: Path, descriptor: int) -> None:
    if not system.lock(descriptor):
        raise UsageError(f"{partial}: another process is at work there")
    if not partial.exists() or not (system.WINDOWS or os.path.samestat(os.fstat(descriptor), os.stat(partial))):
        raise UsageError(f"{partial}: another process has just finished there")
    entries = os.listdir(partial)
    if entries and RECORD not in entries:
        raise UsageError(f"{partial} is in the way and was not made by this command; remove it")
    _empty(partial)
    (partial / RECORD).write_text("{}\n", encoding="utf-8")


def _empty(partial: Path) -> None:
    """Remove all but the record, which marks the folder as ours, however often this is interrupted."""
    for entry in os.scandir(partial):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != RECORD:
            os.unlink(entry.path)


def write_record(folder: Path, content: dict) -> None:
    """Write the origin of `folder`, and a digest that reveals later changes."""
    write_text(folder / RECORD, json.dumps({**content, "digest": _digest(folder)}, indent=2) + "\n")


def finished(out: Path) -> dict | None:
    """Return the record of the complete folder `out`; None when there is none yet.

    Raises:
        UsageError: the folder was not made by this command.
        DataError: it has changed since it was made.
    """
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not os.listdir(out)):
        return None
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not {"digest", "data_set", "counts"} <= record.keys():
        raise UsageError(f"--out {out} is there and was not made by this command; give another --out or remove it")
    if record["digest"] != _digest(out):
        raise DataError(f"{out} has changed since it was made; remove it to make it again")
    return record


def _digest(folder: Path) -> str:
    """Return a digest of the names and sizes of the images."""
    value = hashlib.sha256()
    for name, path in folder_files(folder):
        if "/" in name:
            value.update(os.fsencode(f"{name}\t{path.stat().st_size}\n"))
    return value.hexdigest()

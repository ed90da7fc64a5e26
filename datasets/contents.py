"""The content of image files as one digest: two folders share it that hold the same images by the same names."""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from datasets.cache import workers
from datasets.loader import Dataset
from utils.errors import DataError
from utils.files import digest, write_text


def contents(images: Dataset, cache_dir: str | os.PathLike, title: str) -> str:
    """Return the sha256 over the names, relative to the folder, and the bytes of `images`, in order.

    The files are read once: the digest is kept in `cache_dir` until one of them is changed, moved or replaced.

    Raises:
        DataError: a file cannot be read.
    """
    root = images.store.images.root
    files = [os.path.join(root, path) for path in images.paths]
    try:
        kept = Path(cache_dir) / f"{_key(images.paths, files)}.sha256"
        known = _read(kept)
        if known:
            return known
        value = hashlib.sha256()
        with ThreadPoolExecutor(workers()) as pool:
            digests = tqdm(pool.map(digest, files), title, len(files), unit="image", disable=None, leave=False)
            for path, each in zip(images.paths, digests):
                value.update(os.fsencode(f"{path}\t{each}\n"))
    except OSError as failure:
        raise DataError(f"{failure.filename or root}: {failure.strerror}") from None
    with contextlib.suppress(OSError):  # it can be computed again
        write_text(kept, f"{value.hexdigest()}\n" * 2)
    return value.hexdigest()


def _key(paths: list[str], files: list[str]) -> str:
    """Return a digest of what tells without reading `files` that none has changed: a copy has another one."""
    value = hashlib.sha256()
    for path, file in zip(paths, files):
        status = os.stat(file)
        about = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        value.update(os.fsencode(f"{path}\t{about}\n"))
    return value.hexdigest()[:32]


def _read(path: Path) -> str | None:
    """Return the digest kept in `path`; None if there is none or the file is damaged."""
    with contextlib.suppress(OSError, ValueError):
        first, second = path.read_text(encoding="ascii").split()
        if first == second and len(first) == 64:
            return first
    return None

"""Decode once: the decoded, resized images of a folder in one flat uint8 file that later epochs and runs map.

The resize is deterministic, so crops from the file are bit-identical to decoding again. The file is sparse and filled
on demand. A second file holds one checksum per image: an image whose checksum does not match is decoded again, so an
interrupted, truncated or damaged file repairs itself, and processes that fill it together do no harm.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from datasets.folder import ImageFolder
from datasets.preprocess import Preprocess, decode, size_after_resize
from utils.errors import DataError, DeviceError
from utils.files import replacing

FORMAT = 2

T = TypeVar("T")


def workers() -> int:
    """Return the number of decoding threads: one per core, as Pillow releases the interpreter's lock."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StreamedImages:
    """Images that are decoded at each access: for folders larger than the disk.

    Args:
        images: every image of a folder.
        preprocess: the resize.
    """

    def __init__(self, images: ImageFolder, preprocess: Preprocess):
        self.images, self.preprocess = images, preprocess
        self._pool = ThreadPoolExecutor(workers())

    def pixels(self, positions: Iterable[int]) -> list[np.ndarray]:
        """Return the images at `positions` of the folder, uint8 [H, W, 3] each.

        Raises:
            DataError: an image cannot be read.
        """
        return list(self._pool.map(self._decode, positions))

    def prepare(self, positions: Sequence[int], title: str) -> dict[int, DataError]:
        """Decode the images at `positions` once with a progress bar; return the failures by position."""
        failures = {}
        for position, failure in zip(positions, self._progress(self._try, positions, title)):
            if failure:
                failures[int(position)] = failure
        return failures

    def _path(self, position: int) -> str:
        return os.path.join(self.images.root, self.images.paths[position])

    def _decode(self, position: int) -> np.ndarray:
        return decode(self._path(position), self.preprocess)

    def _try(self, position: int) -> DataError | None:
        try:
            self._decode(position)
        except DataError as failure:
            return failure
        return None

    def _progress(self, work: Callable[[int], T], positions: Sequence[int], title: str) -> Iterable[T]:
        results = self._pool.map(work, positions)
        return tqdm(results, total=len(positions), desc=title, unit="image", disable=None, leave=False)


class CachedImages(StreamedImages):
    """Images of a folder decoded once into a file.

    Args:
        images: every image of a folder.
        preprocess: the resize.
        cache_dir: folder of the cache; a file's name is a fingerprint of names, sizes, times and resize.
    """

    def __init__(self, images: ImageFolder, preprocess: Preprocess, cache_dir: Path):
        super().__init__(images, preprocess)
        base = Path(cache_dir) / fingerprint(images, preprocess)[:32]
        base.parent.mkdir(parents=True, exist_ok=True)
        self._sizes = self._read_sizes(base.with_suffix(".sizes.npy"))
        self._offsets = np.concatenate([[0], np.cumsum(self._sizes.prod(axis=1) * 3)])
        self._files = base.with_suffix(".images"), base.with_suffix(".crc32")
        self._pixels = _mapped(self._files[0], "uint8", int(self._offsets[-1]))
        self._checksums = _mapped(self._files[1], "<u4", len(images))

    def pixels(self, positions: Iterable[int]) -> list[np.ndarray]:
        """Return read-only views of the images at `positions`; they must have been prepared."""
        return [self._view(position) for position in positions]

    def _view(self, position: int) -> np.ndarray:
        start, end = self._offsets[position], self._offsets[position + 1]
        width, height = self._sizes[position]
        return self._pixels[start:end].reshape(height, width, 3)

    def _try(self, position: int) -> DataError | None:
        known = self._checksums[position]
        if known and known == _checksum(self._view(position)):
            return None
        try:
            pixels = self._decode(position)
        except DataError as failure:
            return failure
        if pixels.shape[1::-1] != tuple(self._sizes[position]):
            return DataError(f"{self._path(position)} has changed since the folder was scanned")
        _write(self._files[0], np.ascontiguousarray(pixels).data.cast("B"), int(self._offsets[position]))
        _write(self._files[1], _checksum(pixels).to_bytes(4, "little"), 4 * int(position))
        return None

    def _read_sizes(self, path: Path) -> np.ndarray:
        if not self.preprocess.keep_aspect:
            return np.full((len(self.images), 2), self.preprocess.resize_size, dtype="int64")
        try:
            sizes = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            sizes = None
        if sizes is None or sizes.shape != (len(self.images), 2) or sizes.dtype != np.int64:
            title = f"sizes of {self.images.root}"
            sizes = np.array(list(self._progress(self._size, range(len(self.images)), title)), dtype="int64")
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, sizes)
        return sizes

    def _size(self, position: int) -> tuple[int, int]:
        try:
            return size_after_resize(self._path(position), self.preprocess)
        except DataError:  # an error only if the image is needed
            return 0, 0


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    """Map a file of `count` numbers for reading; it is created or resized first, new numbers are 0."""
    size = count * np.dtype(dtype).itemsize
    path.touch()
    if path.stat().st_size != size:
        os.truncate(path, size)
    return np.memmap(path, dtype, mode="r") if size else np.empty(0, dtype)  # an empty file cannot be mapped


def fingerprint(images: ImageFolder, preprocess: Preprocess) -> str:
    """Return a hexadecimal digest of everything that the decoded pixels of `images` depend on.

    Raises:
        DataError: a file was removed after the folder was scanned.
    """
    kernel = "" if preprocess.interpolation == "bilinear" else f" {preprocess.interpolation}"  # older caches stay
    value = hashlib.sha256(f"{FORMAT} {preprocess.resize_size} {preprocess.keep_aspect}{kernel}".encode())
    for path in images.paths:
        try:
            stat = os.stat(os.path.join(images.root, path))
        except OSError as error:
            raise DataError(f"{images.root}/{path}: {error.strerror}") from None
        value.update(os.fsencode(f"\n{path}\t{stat.st_size}\t{stat.st_mtime_ns}"))
    return value.hexdigest()


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels)) or 1  # 0 means: not decoded


def _write(path: Path, data: bytes | memoryview, offset: int) -> None:
    """Write into a mapped file; not through its map, where a full disk would kill the process instead of raising."""
    try:
        with open(path, "r+b") as file:  # opened each time, so threads and processes share no position
            file.seek(offset)
            file.write(data)
    except OSError as error:
        raise DeviceError(
            f"cannot write the decoded images: {error.strerror}; see --cache_dir and --cache off"
        ) from None

"""Decode once: the decoded, resized images of a folder in one flat uint8 file that later epochs and runs map.

The resize is deterministic, so crops from the file are bit-identical to decoding again. The file is sparse and filled
on demand. A second file holds one checksum per image: an image whose checksum does not match is decoded again, so an
interrupted, truncated or damaged file repairs itself, and processes that fill it together do no harm. The name of
both is a digest of all contents, so folders that look alike share nothing, and a folder that moved finds its cache.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL

from datasets.contents import Content, load_table, read_content, save_table, table_path, unchanged
from datasets.folder import ImageFolder
from datasets.preprocess import MOST_ELONGATED, Preprocess, decode, size_after_resize
from utils.bars import progress_bar
from utils.errors import DataError, DeviceError
from utils.files import replacing

FORMAT = 3
_NPY_HEADER = 128  # bytes

SUBMITTED = 2048  # images that wait for a thread at most

S, T = TypeVar("S"), TypeVar("T")


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
        self._contents: dict[int, Content] = {}

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

    def contents(self, positions: Sequence[int]) -> list[Content]:
        """Return the contents of the files at `positions`, each read once in the life of this object."""
        return self._read_contents(positions, {})

    def fingerprint(self, positions: Sequence[int]) -> str:
        """Return a hexadecimal digest of all that the names, classes and decoded pixels at `positions` depend on."""
        preprocess = self.preprocess
        kernel = "" if preprocess.interpolation == "bilinear" else f" {preprocess.interpolation}"
        turned = "" if preprocess.orientation == "ignore" else f" {preprocess.orientation}"
        about = f"{FORMAT} {PIL.__version__} {preprocess.resize_size} {preprocess.keep_aspect}{kernel}{turned}"
        value = hashlib.sha256(about.encode())
        for position, content in zip(positions, self.contents(positions)):
            value.update(os.fsencode(f"\n{self.images.key(position)}\t{content.digest}"))
        return value.hexdigest()

    def _read_contents(self, positions: Sequence[int], known: dict[str, str]) -> list[Content]:
        def read(position: int) -> Content:
            return read_content(self._path(position), known)

        missing = [position for position in positions if position not in self._contents]
        self._contents.update(zip(missing, self._progress(read, missing, f"contents of {self.images.root}")))
        return [self._contents[position] for position in positions]

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
        results = mapped_in_threads(self._pool, work, positions)
        return progress_bar(results, total=len(positions), desc=title, unit="image")


class CachedImages(StreamedImages):
    """Images of a folder decoded once into a file.

    Args:
        images: every image of a folder.
        preprocess: the resize.
        cache_dir: folder of the cache; a file's name is a fingerprint of names, contents and resize.
    """

    def __init__(self, images: ImageFolder, preprocess: Preprocess, cache_dir: Path):
        super().__init__(images, preprocess)
        cache_dir = Path(cache_dir)
        cache_dir.mkdir(parents=True, exist_ok=True)
        self._load_contents(table_path(cache_dir, images.origin))
        key = self.fingerprint(range(len(images)))[:32]
        self._sizes = self._read_sizes(cache_dir / f"{key}.sizes.npy")
        # the sizes are places in the file: processes that read different ones need different files
        base = cache_dir / hashlib.sha256(key.encode() + self._sizes.tobytes()).hexdigest()[:32]
        self._offsets = np.concatenate([[0], np.cumsum(self._sizes.prod(axis=1) * 3)])
        self._files = base.with_suffix(".images"), base.with_suffix(".crc32")
        self._pixels = _mapped(self._files[0], "uint8", int(self._offsets[-1]))
        self._checksums = _mapped(self._files[1], "<u4", len(images))

    def _load_contents(self, table: Path) -> None:
        known, began = load_table(table), time.time_ns()
        contents = self._read_contents(range(len(self.images)), known)
        if any(content.state and content.key not in known for content in contents):
            save_table(table, contents, began)

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
        same = unchanged(self._path(position), self._contents[position])
        if not same or pixels.shape[1::-1] != tuple(self._sizes[position]):
            return DataError(f"{self._path(position)} has changed since the folder was scanned")
        _write(self._files[0], np.ascontiguousarray(pixels).data.cast("B"), int(self._offsets[position]))
        _write(self._files[1], _checksum(pixels).to_bytes(4, "little"), 4 * int(position))
        return None

    def _read_sizes(self, path: Path) -> np.ndarray:
        if not self.preprocess.keep_aspect:
            return np.full((len(self.images), 2), self.preprocess.resize_size, dtype="int64")
        kept = _load_sizes(path, len(self.images), MOST_ELONGATED * self.preprocess.resize_size)
        sizes = np.zeros((len(self.images), 2), dtype="int64") if kept is None else kept.copy()
        unknown = np.flatnonzero(sizes[:, 0] == 0)
        for position, size in zip(unknown, self._progress(self._size, unknown, f"sizes of {self.images.root}")):
            sizes[position] = size
        if kept is None or not np.array_equal(sizes, kept):
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.vstack([sizes, [_checksum(sizes), 0]]))
        return sizes

    def _size(self, position: int) -> tuple[int, int]:
        try:
            return size_after_resize(self._path(position), self.preprocess)
        except DataError:  # an error only if the image is needed; the next process tries again
            return 0, 0


def mapped_in_threads(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield `work(item)` of each of `items` in order; `pool.map` would hold a task for every item at once."""
    for start in range(0, len(items), SUBMITTED):
        yield from pool.map(work, items[start : start + SUBMITTED])


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    """Map a file of `count` numbers for reading; it is created or resized first, new numbers are 0."""
    size = count * np.dtype(dtype).itemsize
    path.touch()
    if path.stat().st_size != size:
        os.truncate(path, size)
    return np.memmap(path, dtype, mode="r") if size else np.empty(0, dtype)  # an empty file cannot be mapped


def _load_sizes(path: Path, count: int, largest: int) -> np.ndarray | None:
    """Return the table of `count` sizes, int64 [count, 2], whose last row is its checksum; None if it is damaged."""
    try:
        if path.stat().st_size != _NPY_HEADER + 16 * (count + 1):
            return None
        table = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: the header may claim any size
        if table.shape != (count + 1, 2) or table.dtype != np.int64:
            return None
        sizes, checksum = np.array(table[:-1]), table[-1, 0]
    except Exception:  # whatever is wrong with the file, the sizes can be read again
        return None
    valid = checksum == _checksum(sizes) and sizes.min(initial=0) >= 0 and sizes.max(initial=0) <= largest
    return sizes if valid else None


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

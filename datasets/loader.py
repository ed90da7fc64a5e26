"""Batches: endless ones for training, each image once for evaluation; both prepared one step ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from datasets.batch import Batch
from datasets.cache import StreamedImages
from datasets.preprocess import MEAN, STD
from utils.rng import generator

SCALE = (1 / (255 * np.array(STD, dtype="float32"))).reshape(3, 1, 1)
SHIFT = (np.array(MEAN, dtype="float32") / np.array(STD, dtype="float32")).reshape(3, 1, 1)


@dataclass(frozen=True)
class Dataset:
    """The images a run trains or is scored on.

    Attributes:
        store: the decoded images of a folder.
        positions: which of them belong to the set, int64 [N].
        labels: their classes, int64 [N], positions in `class_names`.
        class_names: in the order of the network's outputs.
    """

    store: StreamedImages
    positions: np.ndarray
    labels: np.ndarray
    class_names: list[str]

    @classmethod
    def of(cls, store: StreamedImages, classes: list[str], positions: np.ndarray | None = None) -> Dataset:
        """Return the images at `positions` of the folder of `store`, labelled by their class's place in `classes`.

        Without `positions`: all images of those classes; others in the folder are left out.
        """
        place = {name: label for label, name in enumerate(classes)}
        labels = np.array([place.get(name, -1) for name in store.images.class_names], dtype="int64")[
            store.images.labels
        ]
        positions = np.flatnonzero(labels >= 0) if positions is None else positions
        return cls(store, positions, labels[positions], classes)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def paths(self) -> list[str]:
        """The files, relative to the folder."""
        return [self.store.images.paths[position] for position in self.positions]

    def batches(self, batch_size: int, part: slice = slice(None)) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
        """Yield `(images, index)` in order: centre crops, normalised [B, 3, S, S], and their positions int64 [B]."""
        chosen = np.arange(len(self))[part]
        chunks = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
        for crops, index in ahead((self.centre_crops(index), index) for index in chunks):
            yield normalise(crops), index

    def centre_crops(self, index) -> np.ndarray:
        """Return the centre crops of the images at `index` of the set, uint8 [B, S, S, 3]."""
        return crop(self.store.pixels(self.positions[index]), self.store.preprocess.image_size)


def training_batches(images: Dataset, batch_size: int, seed: int, start: int = 0, part: slice = slice(None)):
    """Yield the `Batch` of step `start`, `start + 1`, ... for ever.

    The steps cut an endless row of permutations, one for each epoch, into batches of `batch_size`: every batch is
    full. Order, crops and flips depend on the seed and the step alone.

    Args:
        images: the training images.
        batch_size: images in one step, over all ranks.
        seed: the seed of the run.
        start: the first step.
        part: the rows of each batch that belong to this rank.
    """
    for crops, index in ahead(_augmented(images, batch_size, seed, start, part)):
        targets = F.one_hot(paddle.to_tensor(images.labels[index]), len(images.class_names))
        yield Batch(images=normalise(crops), targets=targets, index=paddle.to_tensor(index))


def _augmented(images, batch_size, seed, step, part):
    size = images.store.preprocess.image_size
    while True:
        index = order(len(images), batch_size, seed, step)[part]
        draws = generator(seed, "crop", step).random((batch_size, 3))[part]
        yield crop(images.store.pixels(images.positions[index]), size, draws[:, :2], draws[:, 2] < 0.5), index
        step += 1


def order(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return which of `count` images step number `step` trains on, int64 [batch_size]."""
    place = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, rows = place // count, place % count
    return np.concatenate(
        [generator(seed, "order", epoch).permutation(count)[rows[epochs == epoch]] for epoch in np.unique(epochs)]
    )


def crop(pixels: list[np.ndarray], size: int, places=None, flips=None) -> np.ndarray:
    """Cut a square out of each image.

    Args:
        pixels: uint8 [H, W, 3] each.
        size: side of the square.
        places: where, as shares of the room above and to the left, in [0, 1), [B, 2]; None for the middle, rounded as
            paddle.vision does.
        flips: which to mirror, bool [B].

    Returns:
        uint8 [B, size, size, 3].
    """
    out = np.empty((len(pixels), size, size, 3), dtype="uint8")
    for i, image in enumerate(pixels):
        room = np.array(image.shape[:2]) - size
        top, left = np.round(room / 2).astype(int) if places is None else (places[i] * (room + 1)).astype(int)
        square = image[top : top + size, left : left + size]
        out[i] = square[:, ::-1] if flips is not None and flips[i] else square
    return out


def normalise(crops: np.ndarray) -> paddle.Tensor:
    """Return uint8 [B, H, W, 3] as float32 [B, 3, H, W] on the device, ImageNet's mean and deviation removed."""
    return _normalised_here(crops) if paddle.get_device() == "cpu" else _normalised_there(crops)


def _normalised_here(crops):
    out = np.empty((len(crops), 3, *crops.shape[1:3]), dtype="float32")
    for image, result in zip(crops.transpose(0, 3, 1, 2), out):  # one by one they stay in the CPU's cache
        result[...] = image
        result *= SCALE
        result -= SHIFT
    return paddle.to_tensor(out)


def _normalised_there(crops):
    images = paddle.to_tensor(crops).transpose([0, 3, 1, 2]).astype("float32")  # a quarter of the bytes to upload
    return images * paddle.to_tensor(SCALE) - paddle.to_tensor(SHIFT)


def ahead(items: Iterator, depth: int = 2) -> Iterator:
    """Yield `items`, computed up to `depth` ahead in a thread; what it raises is raised here."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def work():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed over: the main thread reports it
            put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()

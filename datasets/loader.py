"""Batches: endless ones for training, each image once for evaluation; both prepared one step ahead in a thread."""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import paddle
import paddle.nn.functional as F

from datasets.augment import DEFAULT, augment, draw
from datasets.balance import BalancedOrder
from datasets.batch import Batch
from datasets.cache import StreamedImages
from datasets.preprocess import Preprocess
from utils.rng import generator

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """A set of labelled images to train on or to evaluate.

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
    def of(cls, store: StreamedImages, class_names: list[str], positions: np.ndarray | None = None) -> Dataset:
        """Return the images of `store` at `positions`, or all of these classes, labelled by place in `class_names`."""
        place = {name: label for label, name in enumerate(class_names)}
        labels = np.array([place.get(name, -1) for name in store.images.class_names], dtype="int64")[
            store.images.labels
        ]
        positions = np.flatnonzero(labels >= 0) if positions is None else positions
        return cls(store, positions, labels[positions], class_names)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def paths(self) -> list[str]:
        """The files, relative to the folder."""
        return [self.store.images.paths[position] for position in self.positions]

    @property
    def groups(self) -> list[str] | None:
        """The group of each image, which no split parts; None without."""
        groups = self.store.images.groups
        return groups and [groups[position] for position in self.positions]

    @functools.cached_property
    def weights(self) -> np.ndarray | None:
        """What the loss of each image is multiplied by, float32 [N]; None for 1."""
        weights = self.store.images.weights
        return None if weights is None else weights[self.positions]

    @property
    def classes_without_images(self) -> list[str]:
        """The classes of which the set has no image."""
        present = set(self.labels.tolist())
        return [name for label, name in enumerate(self.class_names) if label not in present]

    def batches(self, batch_size: int, shard: slice = slice(None)) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
        """Yield `(images, index)` in order: centre crops, normalised [B, 3, S, S], and their positions int64 [B]."""
        chosen = np.arange(len(self))[shard]
        chunks = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
        for crops, index in ahead((self.centre_crops(index), index) for index in chunks):
            yield normalise(crops, self.store.preprocess), index

    def centre_crops(self, index: np.ndarray) -> np.ndarray:
        """Return the centre crops of the images at `index` of the set, uint8 [B, S, S, 3]."""
        return crop(self.store.pixels(self.positions[index]), self.store.preprocess.image_size)


def training_batches(
    images: Dataset,
    batch_size: int,
    seed: int,
    start: int = 0,
    shard: slice = slice(None),
    augmentations: Sequence[str] = DEFAULT,
    balanced: bool = False,
) -> Iterator[Batch]:
    """Yield the `Batch` of step `start`, `start + 1`, ... for ever.

    The steps cut an endless sequence of permutations, one for each epoch, into batches of `batch_size`: every batch is
    full. Order and augmentation depend on the seed and the step alone.

    Args:
        images: the training images.
        batch_size: images in one step, over all ranks.
        seed: the seed of the run.
        start: the first step.
        shard: the rows of each batch that belong to this rank.
        augmentations: keys of `AUGMENTATIONS`, applied in this order.
        balanced: draw each class equally often, by a `BalancedOrder`.
    """
    for crops, index in ahead(_augmented(images, batch_size, seed, start, shard, augmentations, balanced)):
        targets = F.one_hot(paddle.to_tensor(images.labels[index]), len(images.class_names))
        weights = None if images.weights is None else paddle.to_tensor(images.weights[index])
        pixels = normalise(crops, images.store.preprocess)
        yield Batch(images=pixels, targets=targets, index=paddle.to_tensor(index), weights=weights)


def _augmented(
    images: Dataset,
    batch_size: int,
    seed: int,
    start: int,
    shard: slice = slice(None),
    augmentations: Sequence[str] = DEFAULT,
    balanced: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    balanced_order = BalancedOrder(images.labels, seed) if balanced else None
    for step in itertools.count(start):
        whole = balanced_order(batch_size, step) if balanced_order else order(len(images), batch_size, seed, step)
        index = whole[shard]
        draws = {name: rows[shard] for name, rows in draw(augmentations, batch_size, seed, step).items()}
        yield augment(images.store.pixels(images.positions[index]), images.store.preprocess, draws), index


def order(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return which of `count` images step number `step` trains on, int64 [batch_size]."""
    place = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, rows = place // count, place % count
    return np.concatenate([_permutation(count, seed, int(epoch))[rows[epochs == epoch]] for epoch in np.unique(epochs)])


@functools.lru_cache(maxsize=4)  # two epochs meet in a batch; drawn for every step, an epoch would be quadratic
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    permutation = generator(seed, "order", epoch).permutation(count)
    permutation.flags.writeable = False
    return permutation


def crop(pixels: list[np.ndarray], size: int) -> np.ndarray:
    """Return the centre of each image, uint8 [H, W, 3] each, as uint8 [B, size, size, 3]; rounds as paddle.vision."""
    out = np.empty((len(pixels), size, size, 3), dtype="uint8")
    for row, image in enumerate(pixels):
        top, left = (round((side - size) / 2) for side in image.shape[:2])
        out[row] = image[top : top + size, left : left + size]
    return out


def normalise(crops: np.ndarray, preprocess: Preprocess) -> paddle.Tensor:
    """Return uint8 [B, H, W, 3] as float32 [B, 3, H, W] on the device, mean and deviation of `preprocess` removed."""
    normalised = _normalised_here if paddle.get_device() == "cpu" else _normalised_there
    return normalised(crops, *scale_and_shift(preprocess.mean, preprocess.std))


@functools.lru_cache
def scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return s and t, float32 [3, 1, 1] each, with which s * pixel - t is the normalised pixel of 0 to 255."""
    deviation = np.array(std, dtype="float32")
    scale, shift = 1 / (255 * deviation), np.array(mean, dtype="float32") / deviation
    return scale.reshape(3, 1, 1), shift.reshape(3, 1, 1)


def _normalised_here(crops: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> paddle.Tensor:
    out = np.empty((len(crops), 3, *crops.shape[1:3]), dtype="float32")
    for image, result in zip(crops.transpose(0, 3, 1, 2), out):  # one by one they stay in the CPU's cache
        result[...] = image
        result *= scale
        result -= shift
    return paddle.to_tensor(out)


def _normalised_there(crops: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> paddle.Tensor:
    images = paddle.to_tensor(crops).transpose([0, 3, 1, 2]).astype("float32")  # a quarter of the bytes to upload
    return images * paddle.to_tensor(scale) - paddle.to_tensor(shift)


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield `items`, computed up to `depth` ahead in a thread; an exception of the thread is raised here."""
    pool, end = ThreadPoolExecutor(1), object()
    pending = collections.deque(pool.submit(next, items, end) for _ in range(depth))
    try:
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

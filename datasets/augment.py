"""Random augmentations of training images. To add one: write a function and enter it in `AUGMENTATIONS`.

An augmentation maps one uint8 image [H, W, 3] to another. It draws nothing itself: its random numbers depend on the
seed, the step, the row of the batch and its name alone, so a resumed run repeats them, ranks agree, and switching one
augmentation on changes the numbers of no other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from utils.rng import generator


@dataclass(frozen=True)
class Augmentation:
    """An augmentation and the amount of randomness that it needs.

    Attributes:
        apply: called with the image, uint8 [H, W, 3], the side of the square that the network sees, in pixels, and
            `numbers` random numbers, uniform in [0, 1); returns uint8 [H, W, 3], never writing to the image it got.
        numbers: how many random numbers an image takes.
    """

    apply: Callable[[np.ndarray, int, np.ndarray], np.ndarray]
    numbers: int


def random_crop(image: np.ndarray, size: int, numbers: np.ndarray) -> np.ndarray:
    """Cut a square of `size` pixels out at a uniformly random place."""
    top, left = (int(number * (side - size + 1)) for number, side in zip(numbers, image.shape))
    return image[top : top + size, left : left + size]


def horizontal_flip(image: np.ndarray, size: int, numbers: np.ndarray) -> np.ndarray:
    """Mirror half of the images."""
    return image[:, ::-1] if numbers[0] < 0.5 else image


AUGMENTATIONS = {"crop": Augmentation(random_crop, 2), "flip": Augmentation(horizontal_flip, 1)}
DEFAULT = ("crop", "flip")  # the reference's


def draw(names: Sequence[str], batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
    """Return the random numbers of each augmentation, in the order of `names`, [batch_size, its `numbers`] each."""
    shared = generator(seed, "crop", step).random((batch_size, 3))  # crop and flip have always had one draw together
    draws = {"crop": shared[:, :2], "flip": shared[:, 2:]}
    for name in set(names) - set(draws):
        key = zlib.crc32(name.encode())
        draws[name] = generator(seed, "augment", step, key).random((batch_size, AUGMENTATIONS[name].numbers))
    return {name: draws[name] for name in names}


def augment(pixels: list[np.ndarray], size: int, draws: dict[str, np.ndarray]) -> np.ndarray:
    """Apply the augmentations in `draws`, in its order, to each image; one of them must bring images to `size`.

    Args:
        pixels: B images, uint8 [H, W, 3] each; they may be read-only.
        size: side of the square that comes out, in pixels.
        draws: the random numbers of each augmentation, with one row per image.

    Returns:
        uint8 [B, size, size, 3].
    """
    out = np.empty((len(pixels), size, size, 3), dtype="uint8")
    pipeline = [(AUGMENTATIONS[name].apply, numbers) for name, numbers in draws.items()]
    for row, image in enumerate(pixels):
        for apply, numbers in pipeline:
            image = apply(image, size, numbers[row])
        out[row] = image
    return out

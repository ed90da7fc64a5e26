"""Random augmentations of training images. To add one: write a function and enter it in `AUGMENTATIONS`.

An augmentation maps one uint8 image [H, W, 3] to another, before the normalisation. It draws nothing itself: its random
numbers depend on the seed, the step, the row of the batch and its name alone, so a resumed run repeats them, ranks
agree, and switching one augmentation on changes the numbers of no other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datasets import operations
from datasets.preprocess import INTERPOLATIONS, Preprocess
from utils.commandline import shortened
from utils.errors import UsageError
from utils.rng import generator

ATTEMPTS = 10  # at a rectangle that fits into the image, as in torchvision
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


@dataclass(frozen=True)
class Augmentation:
    """An augmentation and the amount of randomness that it needs.

    Attributes:
        apply: called with the image, uint8 [H, W, 3], the preprocessing, of which `image_size` is the side of the
            square that the network sees, in pixels, and `numbers` random numbers, uniform in [0, 1); returns uint8
            [H, W, 3], never writing to the image it got.
        numbers: how many random numbers an image takes.
        crops: whether it returns the square that the network sees.
    """

    apply: Callable[[np.ndarray, Preprocess, np.ndarray], np.ndarray]
    numbers: int
    crops: bool = False


def random_crop(image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray) -> np.ndarray:
    """Cut a square of `image_size` pixels out at a uniformly random place."""
    size = preprocess.image_size
    top, left = (int(number * (side - size + 1)) for number, side in zip(numbers, image.shape))
    return image[top : top + size, left : left + size]


def horizontal_flip(image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray) -> np.ndarray:
    """Mirror half of the images."""
    return image[:, ::-1] if numbers[0] < 0.5 else image


def resized_crop(image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray) -> np.ndarray:
    """Cut out 8 to 100 % of the area, of a width 3/4 to 4/3 of the height, and resize it to the square.

    torchvision's `RandomResizedCrop`, by the kernel of the preprocessing. The image has been resized before, so without
    `keep_aspect` the shape is that in the squashed image.
    """
    height, width = image.shape[:2]
    for across, down in _sides(numbers, height * width, (0.08, 1), (3 / 4, 4 / 3)):
        if 0 < across <= width and 0 < down <= height:
            top, left = _place(numbers, height - down, width - across)
            break
    else:
        across, down = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        top, left = (height - down) // 2, (width - across) // 2
    part = Image.fromarray(image[top : top + down, left : left + across])
    return np.asarray(part.resize((preprocess.image_size,) * 2, INTERPOLATIONS[preprocess.interpolation]))


def trivial_augment(image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray) -> np.ndarray:
    """Apply one of 14 operations with one of 31 magnitudes: TrivialAugment (Wide), arXiv 2103.10158, as torchvision.

    Shifts are up to 32 pixels, whatever the size; what comes from beyond the image is black.
    """
    operation = operations.TRIVIAL[int(numbers[0] * len(operations.TRIVIAL))]
    magnitude = operation.magnitudes[int(numbers[1] * operations.BINS)]
    sign = -1 if operation.signed and numbers[2] < 0.5 else 1
    return np.asarray(operation.apply(Image.fromarray(image), sign * magnitude))


def color_jitter(
    image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray, strengths: dict[str, float] = JITTER
) -> np.ndarray:
    """Change brightness, contrast, saturation and hue in a random order: torchvision's `ColorJitter`.

    The first three are multiplied by a factor from max(0, 1 - s) to 1 + s, s their strength; the hue is turned by -s to
    s of the colour circle. What has no strength is left alone.
    """
    jittered = Image.fromarray(image)
    for place in numbers[len(JITTER) :].argsort():
        name = list(JITTER)[place]
        high = strengths[name]
        low = -high if name == "hue" else max(-1, -high)
        if high:
            jittered = getattr(operations, name)(jittered, low + numbers[place] * (high - low))
    return np.asarray(jittered)


def random_erasing(image: np.ndarray, preprocess: Preprocess, numbers: np.ndarray) -> np.ndarray:
    """Paint over 2 to 33 % of the area of half of the images, of a height 0.3 to 3.3 of the width.

    torchvision's `RandomErasing`, whose 0 after the normalisation is the mean colour before it, here rounded to 8 bits.
    """
    height, width = image.shape[:2]
    chosen = numbers[-1] < 0.5
    for down, across in _sides(numbers, height * width, (0.02, 0.33), (0.3, 3.3)) if chosen else ():
        if down < height and across < width:
            top, left = _place(numbers, height - down, width - across)
            image = image.copy()
            image[top : top + down, left : left + across] = np.clip(np.round(255 * np.array(preprocess.mean)), 0, 255)
            break
    return image


def _sides(
    numbers: np.ndarray, area: int, share: tuple[float, float], ratio: tuple[float, float]
) -> Iterator[tuple[int, int]]:
    """Yield two sides, in pixels, for each attempt; share of the area and logarithm of their ratio are uniform."""
    low, high = map(math.log, ratio)
    for first, second in numbers[: 2 * ATTEMPTS].reshape(ATTEMPTS, 2):
        target, quotient = area * (share[0] + first * (share[1] - share[0])), math.exp(low + second * (high - low))
        yield round(math.sqrt(target * quotient)), round(math.sqrt(target / quotient))


def _place(numbers: np.ndarray, *free: int) -> tuple[int, ...]:
    return tuple(int(number * (pixels + 1)) for number, pixels in zip(numbers[2 * ATTEMPTS :], free))


AUGMENTATIONS = {
    "crop": Augmentation(random_crop, 2, crops=True),
    "flip": Augmentation(horizontal_flip, 1),
    "resized_crop": Augmentation(resized_crop, 2 * ATTEMPTS + 2, crops=True),
    "trivial": Augmentation(trivial_augment, 3),
    "jitter": Augmentation(color_jitter, 2 * len(JITTER)),
    "erase": Augmentation(random_erasing, 2 * ATTEMPTS + 3),
}
DEFAULT = ("crop", "flip")  # the reference's


def named(text: str) -> tuple[str, ...]:
    """Return the augmentations that `text` names, separated by commas.

    Raises:
        UsageError: a name is unknown or there twice, or none of them crops.
    """
    names = tuple(name.strip() for name in text.split(","))
    unknown = [shortened(name) for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise UsageError(f"--augment: no augmentation {unknown[0]!r}; accepted are {', '.join(AUGMENTATIONS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--augment {shortened(text)}: one of them is named twice")
    if not any(AUGMENTATIONS[name].crops for name in names):
        crops = " or ".join(name for name, each in AUGMENTATIONS.items() if each.crops)
        raise UsageError(f"--augment {text}: it crops no image; accepted is a list with {crops}")
    return names


def draw(names: Sequence[str], batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
    """Return the random numbers of each augmentation, in the order of `names`, [batch_size, its `numbers`] each."""
    shared = generator(seed, "crop", step).random((batch_size, 3))  # crop and flip have always had one draw together
    draws = {"crop": shared[:, :2], "flip": shared[:, 2:]}
    for name in set(names) - set(draws):
        key = zlib.crc32(name.encode())
        draws[name] = generator(seed, "augment", step, key).random((batch_size, AUGMENTATIONS[name].numbers))
    return {name: draws[name] for name in names}


def augment(pixels: list[np.ndarray], preprocess: Preprocess, draws: dict[str, np.ndarray]) -> np.ndarray:
    """Apply the augmentations in `draws`, in its order, to each image; one of them must crop.

    Args:
        pixels: B images, uint8 [H, W, 3] each; they may be read-only.
        preprocess: whose `image_size` is the side of the square that comes out, in pixels.
        draws: the random numbers of each augmentation, with one row per image.

    Returns:
        uint8 [B, image_size, image_size, 3].
    """
    out = np.empty((len(pixels), preprocess.image_size, preprocess.image_size, 3), dtype="uint8")
    pipeline = [(AUGMENTATIONS[name].apply, numbers) for name, numbers in draws.items()]
    for row, image in enumerate(pixels):
        for apply, numbers in pipeline:
            image = apply(image, preprocess, numbers[row])
        out[row] = image
    return out

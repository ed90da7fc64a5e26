"""Operations on one image by Pillow, with the meaning that torchvision's transforms give them.

Each maps an RGB image and a magnitude to an RGB image of the same size. At a magnitude of 0 brightness, saturation,
contrast and sharpness leave the image as it is, and -1 is black, grey, its mean grey, or smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

BINS = 31  # magnitudes of an operation of TrivialAugment


@dataclass(frozen=True)
class Operation:
    """One of TrivialAugment's.

    Attributes:
        apply: called with the image and a magnitude.
        magnitudes: the `BINS` that are drawn from.
        signed: whether half of them are negated.
    """

    apply: Callable[[Image.Image, float], Image.Image]
    magnitudes: np.ndarray
    signed: bool


def brightness(image: Image.Image, magnitude: float) -> Image.Image:
    """Return `(1 + magnitude) * image`, from 0 to 255 as all that follow."""
    return ImageEnhance.Brightness(image).enhance(1 + magnitude)


def saturation(image: Image.Image, magnitude: float) -> Image.Image:
    """Move every pixel away from its grey value by `magnitude` of the distance."""
    return ImageEnhance.Color(image).enhance(1 + magnitude)


def contrast(image: Image.Image, magnitude: float) -> Image.Image:
    """Move every pixel away from the mean grey value of the image by `magnitude` of the distance."""
    return ImageEnhance.Contrast(image).enhance(1 + magnitude)


def sharpness(image: Image.Image, magnitude: float) -> Image.Image:
    """Move every pixel away from its value in the smoothed image by `magnitude` of the distance."""
    return ImageEnhance.Sharpness(image).enhance(1 + magnitude)


def hue(image: Image.Image, magnitude: float) -> Image.Image:
    """Turn the hue by `magnitude` of the colour circle, -0.5 to 0.5, in whole steps of its 8 bits."""
    bands = list(image.convert("HSV").split())
    turned = np.asarray(bands[0]) + np.int32(magnitude * 255).astype("uint8")  # round the circle of 256
    bands[0] = Image.fromarray(turned)
    return Image.merge("HSV", bands).convert("RGB")


def shear_x(image: Image.Image, magnitude: float) -> Image.Image:
    """Take row y from `magnitude * y` further right; nearest pixels, black where there are none, as all that follow."""
    return _moved(image, 1, magnitude, 0, 0, 1, 0)


def shear_y(image: Image.Image, magnitude: float) -> Image.Image:
    """Take column x from `magnitude * x` further down."""
    return _moved(image, 1, 0, 0, magnitude, 1, 0)


def translate_x(image: Image.Image, magnitude: float) -> Image.Image:
    """Shift by `magnitude` pixels to the right, rounded towards 0."""
    return _moved(image, 1, 0, -int(magnitude), 0, 1, 0)


def translate_y(image: Image.Image, magnitude: float) -> Image.Image:
    """Shift by `magnitude` pixels downwards, rounded towards 0."""
    return _moved(image, 1, 0, 0, 0, 1, -int(magnitude))


def rotate(image: Image.Image, magnitude: float) -> Image.Image:
    """Rotate by `magnitude` degrees around the centre, counter-clockwise."""
    return image.rotate(magnitude, Image.Resampling.NEAREST)


def posterize(image: Image.Image, magnitude: float) -> Image.Image:
    """Keep the upper `magnitude` bits of each channel."""
    return ImageOps.posterize(image, int(magnitude))


def solarize(image: Image.Image, magnitude: float) -> Image.Image:
    """Invert what is not below `magnitude`."""
    return ImageOps.solarize(image, magnitude)


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


_SHARE, _NONE = np.linspace(0, 0.99, BINS), np.zeros(BINS)
_PIXELS, _DEGREES = np.linspace(0, 32, BINS), np.linspace(0, 135, BINS)

# the wide space of TrivialAugment, arXiv 2103.10158, in torchvision's order
TRIVIAL = (
    Operation(lambda image, _: image, _NONE, False),
    Operation(shear_x, _SHARE, True),
    Operation(shear_y, _SHARE, True),
    Operation(translate_x, _PIXELS, True),
    Operation(translate_y, _PIXELS, True),
    Operation(rotate, _DEGREES, True),
    Operation(brightness, _SHARE, True),
    Operation(saturation, _SHARE, True),
    Operation(contrast, _SHARE, True),
    Operation(sharpness, _SHARE, True),
    Operation(posterize, 8 - np.round(np.arange(BINS) / 5), False),
    Operation(solarize, np.linspace(255, 0, BINS), False),
    Operation(lambda image, _: ImageOps.autocontrast(image), _NONE, False),
    Operation(lambda image, _: ImageOps.equalize(image), _NONE, False),
)

"""From an image file to the uint8 array that training crops from: decode, convert to RGB, resize."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from datasets.decoder import Source, opened, to_rgb, upright_size
from models.network import MEAN, STD

__all__ = ["INTERPOLATIONS", "MEAN", "ORDINARY", "ORIENTATIONS", "STD", "Preprocess", "decode", "size_after_resize"]

INTERPOLATIONS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
ORIENTATIONS = ("exif", "ignore")
MOST_ELONGATED = 50  # longer over shorter side; resized with its aspect kept, an image takes memory in proportion to it


@dataclass(frozen=True)
class Preprocess:
    """The deterministic part of the transform, and the normalisation.

    Attributes:
        image_size: side of the square that the network sees, in pixels.
        resize_size: side that an image is resized to before the crop, in pixels.
        keep_aspect: resize the shorter side to `resize_size` instead of both sides.
        mean: of each channel, subtracted; in units of 1 = white.
        std: of each channel, what it is divided by then.
        interpolation: of the resize, a key of `INTERPOLATIONS`.
        orientation: "exif" turns photographs upright, as cameras record it; "ignore", the reference's, leaves the
            pixels as they are in the file. Checkpoints that do not record it are of versions that ignored it.
    """

    image_size: int = 224
    resize_size: int = 256
    keep_aspect: bool = False
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    interpolation: str = "bilinear"
    orientation: str = "ignore"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # a list in a checkpoint; it is a key of dictionaries
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the resize; the longer side is truncated, as paddle.vision does.

        Raises:
            ValueError: the aspect is kept and one side is more than `MOST_ELONGATED` times the other.
        """
        if not self.keep_aspect:
            return self.resize_size, self.resize_size
        if max(width, height) > MOST_ELONGATED * min(width, height):
            accepted = f"accepted when the aspect is kept is a longer side of up to {MOST_ELONGATED} times the shorter"
            raise ValueError(f"{width} x {height} pixels; {accepted}")
        if width <= height:
            return self.resize_size, int(self.resize_size * height / width)
        return int(self.resize_size * width / height), self.resize_size

    def to_dict(self) -> dict:
        """Return it in the form that a checkpoint keeps."""
        return asdict(self)


ORDINARY = Preprocess()


def decode(source: Source, preprocess: Preprocess, name: object = None) -> np.ndarray:
    """Read one image as uint8 [H, W, 3] at its resized size, by Pillow.

    Args:
        source: as of `opened`.
        preprocess: the resize.
        name: the image's name in messages, `source` by default.

    Raises:
        DataError: it is unreadable, truncated, not an image, so large that it may be a decompression bomb, or
            too elongated to keep its aspect.
    """
    with opened(source, name) as image:
        resized = preprocess.resized(*_size(image, preprocess))
        rgb = to_rgb(image, preprocess.orientation == "exif")
        return np.asarray(rgb if rgb.size == resized else rgb.resize(resized, INTERPOLATIONS[preprocess.interpolation]))


def size_after_resize(path: str | os.PathLike, preprocess: Preprocess) -> tuple[int, int]:
    """Return width and height of `decode`'s result, read from the file only where the aspect is kept.

    The header is enough, except in PNG and TIFF files for their orientation.

    Raises:
        DataError: as `decode`.
    """
    if not preprocess.keep_aspect:
        return preprocess.resized(0, 0)
    with opened(path) as image:
        return preprocess.resized(*_size(image, preprocess))


def _size(image: Image.Image, preprocess: Preprocess) -> tuple[int, int]:
    upright = preprocess.keep_aspect and preprocess.orientation == "exif"  # the sides matter where the aspect is kept
    return upright_size(image) if upright else image.size

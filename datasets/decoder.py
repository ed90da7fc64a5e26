"""The one door to Pillow: image files opened by an allow-list of decoders, and their pixels as 8-bit RGB."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from functools import cache
from typing import IO, Union

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

from datasets import heif
from utils.errors import DataError

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF")  # no EPS: Pillow would start Ghostscript
BACKGROUND = (255, 255, 255)  # what transparent images are laid on

# by the EXIF orientation of an image, how its pixels are turned for it to stand upright
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}

Source = Union[str, os.PathLike, IO[bytes], bytes, np.ndarray, Image.Image]


@contextlib.contextmanager
def opened(source: Source, name: object = None) -> Iterator[Image.Image]:
    """Open an image, of which only the header has been read when the block begins.

    Args:
        source: a path, an open file or the bytes of one, an array uint8 [H, W, 3] in RGB order, or an image of Pillow,
            which stays open.
        name: the image's name in messages, `source` by default.

    Raises:
        DataError: it cannot be opened, is not an image of `FORMATS` or, with pillow-heif, HEIC, or anything in the
            block failed: decoders raise exceptions of every kind on damaged files.
    """
    try:
        with _image(source) as image:
            yield image
    except Exception as error:
        raise DataError(f"cannot read the image {name or source}: {_reason(error)}") from None


def orientation_of(image: Image.Image) -> object:
    """Return the EXIF orientation of `image`, 1 to 8 unless it is damaged; None where it has none.

    PNG may have it behind the pixels: they are read first.
    """
    if image.format == "PNG":
        image.load()
    return image.getexif().get(ExifTags.Base.Orientation)


def turn_of(image: Image.Image) -> Transpose | None:
    """Return how the pixels of `image` are turned for it to stand upright, by its EXIF orientation.

    None where it has none, where that is damaged, and for TIFF, which Pillow itself turns as it reads the pixels. PNG
    may have it behind the pixels: they are read first.
    """
    if image.format == "TIFF":
        return None
    if image.format == "PNG":
        image.load()
    try:
        return _TURNS.get(orientation_of(image))
    except Exception:  # of any kind: the pixels may be sound nevertheless
        return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of `image` turned as `turn_of` says; of PNG and TIFF the pixels are read for it."""
    if image.format == "TIFF":
        image.load()
    return image.size[::-1] if turn_of(image) in _SIDEWAYS else image.size


def to_rgb(image: Image.Image, upright: bool = False) -> Image.Image:
    """Return `image` as RGB: what is transparent is laid on `BACKGROUND`, of 16 bits the upper 8 are taken.

    Grey images of 16 or 32 bits whose values all fit into 8 bits are taken as 8-bit images.

    Args:
        image: opened by `opened`.
        upright: turn it as `turn_of` says.

    Raises:
        ValueError: the pixels are floating-point numbers, or integers outside of 0 to 65535.
    """
    rgb = _rgb(image)
    turn = turn_of(image) if upright else None
    return rgb if turn is None else rgb.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    image.load()  # some decoders learn of transparency here
    if image.mode == "F":
        raise ValueError("floating-point pixels; accepted are 8 and 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if low < 0 or high >= 1 << 16:
            raise ValueError("32-bit pixels; accepted are 8 and 16 bits")
        return Image.fromarray((values if high < 1 << 8 else values >> 8).astype("uint8")).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, BACKGROUND)
        rgb.paste(layered, mask=layered.getchannel("A"))
        return rgb
    return image.convert("RGB")


def _image(source: Source) -> contextlib.AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return contextlib.nullcontext(source)
    if isinstance(source, np.ndarray):
        return contextlib.nullcontext(Image.fromarray(source))
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        _check_kind(os.stat(source).st_mode)
    return _open(source)


def _open(source: str | os.PathLike | IO[bytes]) -> Image.Image:
    try:
        return Image.open(source, formats=_formats())
    except UnidentifiedImageError:
        key = heif.of_content(_beginning(source))
        name = heif.decoder(key) if key else None
        if key and name is None:
            raise ValueError(f"{key}, which is not read here: {heif.KINDS[key].install}") from None
        if name is None or name in FORMATS:
            raise
        return Image.open(source, formats=(name,))


def _beginning(source: str | os.PathLike | IO[bytes]) -> bytes:
    if hasattr(source, "read"):
        source.seek(0)
        return source.read(heif.HEADER)
    with open(source, "rb") as file:
        return file.read(heif.HEADER)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # loads every plugin; Pillow knows only those it was built with
    known = (name for name in FORMATS if name in Image.OPEN)
    return tuple(name for name in known if name not in heif.KINDS or heif.decoder(name))


def _check_kind(mode: int) -> None:
    if stat.S_ISFIFO(mode):  # opening it would block forever
        raise ValueError("a named pipe")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("not a regular file")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known format; accepted are {' '.join(FORMATS)}"
    text = getattr(error, "strerror", None) or (str(error) if error.args else "")
    return text if text and not isinstance(error, LookupError) else f"{type(error).__name__} {text}".strip()

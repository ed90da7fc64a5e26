"""FGVC-Aircraft 2013b: 100 variants of aircraft (Maji et al. 2013), training on train and val together."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

from PIL import JpegImagePlugin

from datasets.decoder import opened
from datasets.official.base import Counts, DataSet, File, Layout, Listing, Transform, lines, table
from utils.errors import DataError

BANNER = 20  # pixels at the bottom of every image that hold its copyright


def read(lists: dict[str, bytes]) -> Listing:
    """Number the variants in the order of variants.txt and join the two lists of images.

    Raises:
        DataError: a line cannot be read, or names a variant that variants.txt does not.
    """
    variants = lines(lists, "variants.txt")
    numbers = {name: number for number, name in enumerate(variants, 1)}
    note = "the README in the archive counts an older release: 10,200 images, 102 variants"
    listing = Listing(variants, (note,))
    for split, name in (("train", "images_variant_trainval.txt"), ("test", "images_variant_test.txt")):
        for image, variant in table(lists, name).items():
            if variant not in numbers:
                raise DataError(f"{name}: {image} is of the variant {variant!r}, which variants.txt does not name")
            listing.add(f"images/{image}.jpg", split, numbers[variant], name)
    return listing


def crop_banner(content: IO[bytes], path: Path) -> None:
    """Write an image without its banner as JPEG, with its original quantization tables and chroma sampling.

    The blocks of a JPEG start at the top, so the same tables reproduce nearly the same pixels.

    Raises:
        DataError: it cannot be decoded, or is not higher than the banner.
    """
    with opened(io.BytesIO(content.read()), path.name) as image:
        image.load()
    width, height = image.size
    if height <= BANNER:
        raise DataError(f"cannot crop {path.name}: it is {height} pixels high, the banner {BANNER}")
    options = {"quality": 95, "subsampling": 0}
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        options = {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.crop((0, 0, width, height - BANNER)).save(path, "JPEG", **options)


AIRCRAFT = DataSet(
    title="FGVC-Aircraft 2013b",
    releases=(
        (
            File(
                "fgvc-aircraft-2013b.tar.gz",
                "robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                md5="d4acdd33327262359767eeaa97a4f732",
            ),
        ),
    ),
    counts=Counts(100, 6667, 3333, (66, 67), (33, 34)),
    layouts=(
        Layout(("variants.txt", "images_variant_trainval.txt", "images_variant_test.txt"), "images/[^/]+[.]jpg", read),
    ),
    mistake="the classes are the variants, not the families or manufacturers",
    transform=Transform(
        flag="crop_banner",
        help="cut off the banner",
        note=f"every image has a banner of {BANNER} pixels at the bottom; --crop_banner cuts it off",
        write=crop_banner,
    ),
)

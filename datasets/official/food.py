"""Food-101: 101 dishes (Bossard et al. 2014). Its training images are noisy on purpose."""

from __future__ import annotations

import json

from datasets.official.base import Counts, DataSet, File, Layout, Listing, by_folder, lines
from utils.errors import DataError


def read(lists: dict[str, bytes]) -> Listing:
    """Read the .txt lists: one CLASS/IMAGE, without its ending, in a line.

    Raises:
        DataError: a line is not CLASS/IMAGE, or an image is listed twice.
    """
    return _listing(*(lines(lists, name) for name in TXT))


def read_json(lists: dict[str, bytes]) -> Listing:
    """Read the .json lists: the same names by class, unordered.

    Raises:
        DataError: it is not JSON of that form, or as in `read`.
    """
    return _listing(*(_names(lists, name) for name in JSON))


def _names(lists: dict[str, bytes], name: str) -> list[str]:
    try:
        content = json.loads(lists[name])
        names = [image for images in content.values() for image in images]
        if not all(isinstance(image, str) and image.isprintable() for image in names):
            raise ValueError("a name is not text")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{name}: not a list of images by class: {error}") from None
    return names


def _listing(train: list[str], test: list[str]) -> Listing:
    return by_folder(train, test, "images/{}.jpg", "the lists in meta")


TXT = ("meta/train.txt", "meta/test.txt")
JSON = ("meta/train.json", "meta/test.json")
IMAGE = "images/[^/]+/[^/]+[.]jpg"

FOOD = DataSet(
    title="Food-101",
    releases=(
        (
            File(
                "food-101.tar.gz",
                "data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                size=4996278331,
                md5="85eeb15f3717b99a5da872d97d918f87",
                sha256="d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
            ),
        ),
    ),
    counts=Counts(101, 75750, 25250, (750, 750), (250, 250)),
    layouts=(Layout(TXT, IMAGE, read), Layout(JSON, IMAGE, read_json)),
    mistake="there is one archive, with the lists in its folder meta",
)

"""CUB-200-2011: 200 kinds of birds (Wah et al. 2011)."""

from __future__ import annotations

import re

from datasets.official.base import Counts, DataSet, File, Layout, Listing, table, to_int
from utils.errors import DataError


def read(lists: dict[str, bytes]) -> Listing:
    """Join the four lists by image number.

    Raises:
        DataError: a line cannot be read, a list lacks an image, or a class number is out of range.
    """
    names = table(lists, "classes.txt")
    numbers = [str(number) for number in range(1, len(names) + 1)]
    if set(names) != set(numbers):
        raise DataError(f"classes.txt: its classes are not numbered 1 to {len(names)}")
    listing = Listing([re.sub(r"^\d+\.", "", names[number]) for number in numbers])
    images, labels, splits = (
        table(lists, name) for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    for image, name in images.items():
        where = f"image {image} of images.txt"
        if splits.get(image) not in ("0", "1"):
            raise DataError(
                f"{where}: train_test_split.txt says {splits.get(image)}; accepted are 1, train, and 0, test"
            )
        number = to_int(labels.get(image), f"{where}, in image_class_labels.txt")
        listing.add(f"images/{name}", "train" if splits[image] == "1" else "test", number, where)
    return listing


CUB = DataSet(
    title="CUB-200-2011",
    releases=(
        (
            File(
                "CUB_200_2011.tgz",
                "data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                size=1150585339,
                md5="97eceeb196236b17998738112f37df78",
                sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            ),
        ),
    ),
    counts=Counts(200, 5994, 5794, (29, 30), (11, 30)),
    layouts=(
        Layout(
            ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"),
            "images/[^/]+/[^/]+[.]jpg",
            read,
        ),
    ),
    mistake="CUB-200 of 2010, with 3,000 and 3,033 images, is another data set",
)

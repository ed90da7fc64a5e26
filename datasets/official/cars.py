"""Stanford Cars: 196 models of cars (Krause et al. 2013), in either of its two releases."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from datasets.official.base import Counts, DataSet, File, Layout, Listing, to_int
from utils.errors import DataError

COMPRESSED = 15  # the type of a compressed variable in a MATLAB 5 file
LARGEST_VARIABLE = 1 << 26  # bytes; those of the data set have some megabytes


def read(lists: dict[str, bytes]) -> Listing:
    """Read the first release: two folders of images, each numbered from 00001, and the devkit.

    Raises:
        DataError: a .mat file is damaged or lacks a field, or a class number is out of range.
    """
    note = "the lists of BSS and the folders 1 to 196 of TLLib number the images of the other release, not of this one"
    listing = Listing(_names(lists, "cars_meta.mat"), (note,))
    for split, mat in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        for name, number in zip(*_columns(lists, mat, "fname", "class")):
            listing.add(f"cars_{split}/{name}", split, to_int(number, f"{mat}, {name}"), mat)
    return listing


def read_second(lists: dict[str, bytes]) -> Listing:
    """Read the second release: one folder of images numbered from 000001, and one .mat file.

    Raises:
        DataError: as `read`.
    """
    mat = "cars_annos.mat"
    listing = Listing(_names(lists, mat), ("the images are numbered otherwise than in cars_train and cars_test",))
    for name, number, test in zip(*_columns(lists, mat, "relative_im_path", "class", "test")):
        split = "test" if to_int(test, f"{mat}, {name}") else "train"
        listing.add(str(name), split, to_int(number, f"{mat}, {name}"), mat)
    return listing


def _names(lists: dict[str, bytes], mat: str) -> list[str]:
    return [str(name) for name in np.atleast_1d(_load(lists, mat, "class_names"))]


def _columns(lists: dict[str, bytes], mat: str, *columns: str) -> list[list]:
    annotations = np.atleast_1d(_load(lists, mat, "annotations"))
    missing = [column for column in columns if column not in (annotations.dtype.names or ())]
    if missing:
        raise DataError(f"{mat}: annotations has no field {missing[0]}")
    return [annotations[column].tolist() for column in columns]


def _load(lists: dict[str, bytes], mat: str, variable: str) -> np.ndarray:
    from scipy.io import loadmat  # slow to import, and needed for this data set alone

    try:
        _refuse_bomb(lists[mat])
        content = loadmat(io.BytesIO(lists[mat]), squeeze_me=True)
    except Exception as error:  # on a damaged file scipy raises whatever it runs into
        raise DataError(f"{mat}: not a MATLAB file that scipy can read: {error}") from None
    if variable not in content:
        raise DataError(f"{mat}: holds no variable {variable}")
    return content[variable]


def _refuse_bomb(data: bytes) -> None:
    """Raise ValueError if the compressed variables of a MATLAB 5 file are larger than any of the data set."""
    order, place = "<" if data[126:128] == b"IM" else ">", 128
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data[place + 8 : place + 8 + size], LARGEST_VARIABLE + 1)
            if len(unpacked) > LARGEST_VARIABLE:
                raise ValueError(f"a variable of more than {LARGEST_VARIABLE:,} bytes")
        place += 8 + size


CARS = DataSet(
    title="Stanford Cars",
    releases=(
        (
            File(
                "cars_train.tgz",
                "ai.stanford.edu/~jkrause/car196/cars_train.tgz",
                dead=True,
                size=979269282,
                md5="065e5b463ae28d29e77c1b4b166cfe61",
                sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
            ),
            File(
                "cars_test.tgz",
                "ai.stanford.edu/~jkrause/car196/cars_test.tgz",
                dead=True,
                size=977350468,
                md5="4ce7ebf6a94d07f1952d94dd34c4d501",
                sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
            ),
            File(
                "car_devkit.tgz",
                "ai.stanford.edu/~jkrause/cars/car_devkit.tgz",
                dead=True,
                size=330960,
                md5="c3b158d763b6e2245038c8ad08e45376",
                sha256="b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
            ),
            File(
                "cars_test_annos_withlabels.mat",
                size=185758,
                md5="b0a2b23655a3edd16d84508592a98d10",
                sha256="790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
            ),
        ),
        (File("car_ims.tgz"), File("cars_annos.mat")),
    ),
    counts=Counts(196, 8144, 8041, (24, 68), (24, 68)),
    layouts=(
        Layout(
            ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
            "cars_(?:train|test)/[^/]+[.]jpg",
            read,
        ),
        Layout(("cars_annos.mat",), "car_ims/[^/]+[.]jpg", read_second),
    ),
    mistake="the devkit's cars_test_annos.mat has no labels, cars_test_annos_withlabels.mat is a file of its own",
)

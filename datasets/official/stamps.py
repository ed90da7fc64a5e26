"""Stamps: cut-out photographs from Debian's package tuxpaint-stamps-default, in classes that this project defines.

stamps.csv beside this file lists them: class, split, group, path below usr/share/tuxpaint/stamps, sha256. A group holds
pictures of one object: mirrored, recoloured, or photographed twice. docs/data.md says how they were chosen and split.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO

from PIL import Image

from datasets.decoder import opened
from datasets.official.base import Counts, DataSet, File, Layout, Listing

LIST = Path(__file__).with_suffix(".csv")


def read(lists: dict[str, bytes]) -> Listing:
    """Read this project's own list; the package has none, so `lists` is empty."""
    with open(LIST, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    class_names = sorted({row["class"] for row in rows})
    listing = Listing(class_names)
    for row in rows:
        path = row["path"]
        listing.add(path, row["split"], class_names.index(row["class"]) + 1, LIST.name)
        listing.file_names[path] = path.replace("/", "-")  # two coins are named 001penny.png
        listing.sums[path] = row["sha256"]
    return listing


def on_white(content: IO[bytes], path: Path) -> None:
    """Write an image as RGB PNG, its transparent pixels on white.

    Raises:
        DataError: it cannot be decoded.
    """
    with opened(io.BytesIO(content.read()), path.name) as picture:
        image = picture.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    Image.alpha_composite(white, image).convert("RGB").save(path, "PNG")


STAMPS = DataSet(
    title="Tux Paint stamps",
    releases=(
        (
            File(
                "tuxpaint-stamps-default_2022.06.04-1_all.deb",
                "deb.debian.org/debian/pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
                size=160880444,
                md5="982b1d6c4a685f1ac0fc473b5e6ca498",
                sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            ),
        ),
    ),
    counts=Counts(22, 169, 131, (4, 13), (4, 10)),
    layouts=(
        Layout(
            (),
            # vehicles are a folder of military too, and the longest beginning of a path is cut off
            "(?:animals|food|hobbies|household|military|plants|seasonal|space|sports|symbols|town|(?<!military/)vehicles)"
            "/.+[.]png",
            read,
        ),
    ),
    mistake="another version of the package has other pictures",
    write=on_white,
)

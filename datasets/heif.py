"""HEIC and AVIF, which not every installation reads: which is read here, and what to install for the other."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from PIL import Image


class Kind(NamedTuple):
    """One of the two.

    Attributes:
        endings: of its files.
        brands: of ISO/IEC 23008-12 and the AVIF specification; one of them is among the brands at a file's beginning.
        install: the command after which it is read.
    """

    endings: tuple[str, ...]
    brands: frozenset[bytes]
    install: str


KINDS = {  # AVIF first: its files may have the general brands mif1 and msf1 too
    "AVIF": Kind((".avif",), frozenset((b"avif", b"avis")), "pip install --upgrade pillow"),
    "HEIC": Kind(
        (".heic", ".heif", ".hif"),
        frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
        "pip install pillow-heif",
    ),
}
HEADER = 256  # bytes, more brands than any file has


def of_name(name: str) -> str | None:
    """Return the key in `KINDS` of a file of this name, None of any other file."""
    return next((key for key, kind in KINDS.items() if name.lower().endswith(kind.endings)), None)


def of_content(header: bytes) -> str | None:
    """Return the key in `KINDS` of a file that begins with `header`, None of any other file."""
    if header[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(header[:4], "big"), len(header))
    brands = {header[8:12], *(header[place : place + 4] for place in range(16, end, 4))}
    return next((key for key, kind in KINDS.items() if brands & kind.brands), None)


@cache
def decoder(key: str) -> str | None:
    """Return Pillow's name of the decoder of files of the kind `key`, None where there is none."""
    if key == "AVIF":
        Image.init()
        return "AVIF" if "AVIF" in Image.SAVE else None  # without its library Pillow registers the reader alone
    try:
        import pillow_heif
    except ImportError:
        return None
    pillow_heif.register_heif_opener()
    return "HEIF"

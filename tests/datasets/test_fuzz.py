"""Mutated images and archives: a clear refusal or a result, in bounded time and memory, and nothing is started."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from datasets.archives import tar_files
from datasets.decoder import FORMATS
from datasets.preprocess import Preprocess, decode
from tests.fuzzing import FULL, peak_memory
from tests.pictures import picture
from utils.errors import DataError

SECONDS, MEGABYTES = 20, 1500  # for one input; Pillow takes images of up to 179 million pixels
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "LA", "P", "L", "1", "I;16"),
    "PPM": ("RGB", "L", "I;16"),
    "BMP": ("RGB", "P", "1"),
    "TIFF": ("RGB", "RGBA", "CMYK", "LAB", "P", "I", "F", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "AVIF": ("RGB", "RGBA"),
}
COUNT, ARCHIVES = (2000, 1000) if FULL else (20, 60)  # images of each format


def in_mode(mode: str) -> Image.Image:
    image = picture(1, 2)
    if mode in ("I", "F", "I;16"):
        values = np.asarray(image.convert("L"))
        return Image.fromarray(values.astype({"I": "int32", "F": "float32", "I;16": "uint16"}[mode]))
    return Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image.convert(mode)


def images(form: str) -> list[bytes]:
    made = []
    for mode in MODES[form]:
        options = [{}]
        if form == "TIFF" and mode in ("RGB", "L"):
            options += [{"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
        if form == "GIF":
            options += [{"save_all": True, "append_images": [picture(2).convert("P")], "transparency": 3}]
        if form == "PNG":
            options += [{"icc_profile": b"x" * 99}]
        for each in options:
            content = io.BytesIO()
            in_mode(mode).save(content, form, **each)
            made.append(content.getvalue())
    return made


def mutate(data: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Return `data` damaged in one to three ways: flipped, cut, doubled, overwritten, or under another header."""
    for _ in range(rng.integers(1, 4)):
        content = bytearray(data)
        place, length = int(rng.integers(len(content))), int(rng.integers(1, 24))
        early = int(rng.integers(min(len(content), 128)))
        extremes = (b"\0", b"\xff", b"\x7f", b"\x80")
        kind = rng.integers(7)
        if kind == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            content[early : early + length] = rng.bytes(length)
        elif kind == 2:
            del content[place:]
        elif kind == 3:
            content[place:place] = content[early : early + 8 * length]
        elif kind == 4:
            content[early : early + 4] = extremes[rng.integers(4)] * 4
        elif kind == 5:
            other = others[rng.integers(len(others))]
            content = bytearray(other[:early]) + content[early:]
        else:
            del content[place : place + length]
        data = bytes(content) or b"\0"
    return data


def refused_or_done(work: Callable[[], object]) -> bool:
    """Return whether `work` was refused; anything but a result or a `DataError` within time and memory fails."""
    before, began = peak_memory(), time.perf_counter()
    refused = False
    try:
        work()
    except DataError:
        refused = True
    assert time.perf_counter() - began < SECONDS
    assert peak_memory() - before < MEGABYTES * 1024
    return refused


@pytest.fixture
def nothing_starts(monkeypatch):
    def start(*arguments, **_):
        raise AssertionError(f"a program was started: {arguments}")

    for owner, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn"), (os, "fork")):
        monkeypatch.setattr(owner, name, start)


@pytest.mark.filterwarnings("ignore")  # of Pillow, on damaged files
@pytest.mark.parametrize("form", FORMATS)
def test_mutated_images(form, tmp_path, nothing_starts):
    if form not in Image.registered_extensions().values():
        pytest.skip("this Pillow does not know it")
    rng = np.random.default_rng([2022, FORMATS.index(form)])
    whole, others = images(form), [images(other)[0] for other in ("PNG", "TIFF", "GIF", "JPEG", "BMP")]
    path, refusals = tmp_path / "image.jpg", 0
    preprocess = [Preprocess(32, 37), Preprocess(32, 37, keep_aspect=True)]
    for number in range(COUNT):
        path.write_bytes(mutate(whole[number % len(whole)], rng, others))
        refusals += refused_or_done(lambda number=number: decode(path, preprocess[number % 2]))
    assert refusals > COUNT / 10
    for data in whole:
        path.write_bytes(data)
        assert refused_or_done(lambda: decode(path, preprocess[0])) == (Image.open(path).mode == "F")


def archives() -> list[bytes]:
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for mode in ("w", "w:gz"):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode=mode, format=form) as tar:
                for name in ("a/1.jpg", "a/" + "long" * 20 + "/2.jpg", "b/ü.jpg"):
                    member = tarfile.TarInfo(name)
                    member.size = 700
                    if form == tarfile.PAX_FORMAT:
                        member.pax_headers = {"comment": "x", "GNU.sparse.name": name}
                    tar.addfile(member, io.BytesIO(bytes(700)))
            made.append(content.getvalue())
    return made


def fix_checksums(data: bytes) -> bytes:
    """Return a tar with the checksums of the headers at block boundaries made right, so that damage reaches deeper."""
    content = bytearray(data)
    for start in range(0, len(content) - 511, 512):
        if content[start + 257 : start + 262] == b"ustar":
            header = content[start : start + 148] + b" " * 8 + content[start + 156 : start + 512]
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(content)


def read(path) -> None:
    with tar_files(path) as files:
        for _, content in files:
            content.read(1 << 20)


def test_mutated_archives(tmp_path, nothing_starts):
    rng = np.random.default_rng(2022)
    whole, path, refusals = archives(), tmp_path / "a.tar", 0
    for number in range(ARCHIVES):
        mutant = mutate(whole[number % len(whole)], rng, whole)
        path.write_bytes(fix_checksums(mutant) if number % 3 else mutant)
        refusals += refused_or_done(lambda: read(path))
    assert refusals > ARCHIVES / 10
    for data in whole:
        path.write_bytes(data)
        read(path)

"""Ratios against a baseline that is measured in the same run: `python benchmarks/NAME.py`.

Times depend on the machine and on what else it does, their ratios hardly: what is compared is measured in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np
import paddle
from PIL import Image

from utils.files import write_text
from utils.processor import machine
from utils.provenance import provenance

K, T = TypeVar("K"), TypeVar("T")


def in_turns(work: dict[K, Callable[[], T]], repeats: int, unmeasured: int = 1) -> dict[K, list[T]]:
    """Call each of `work` once in turn, `unmeasured` times first and then `repeats` times.

    Returns:
        What the calls returned, by name. A drift of the machine is in all of them alike.
    """
    results = {name: [] for name in work}
    for turn in range(unmeasured + repeats):
        for name, call in work.items():
            result = call()
            if turn >= unmeasured:
                results[name].append(result)
    return results


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(columns: tuple[str, ...], rows: list[tuple]) -> None:
    """Print a table: names to the left, numbers to the right."""
    table = [columns, *(tuple(_cell(value) for value in row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for first, *others in table:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:])), sep="  ")


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def machine_line(*packages: str) -> str:
    """Return processor, cores and versions, of those of `packages` too that are installed."""
    versions = {"paddle": paddle.__version__}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    about = [f"{name} {version}" for name, version in versions.items()]
    return ", ".join([machine()["processor"], f"{os.cpu_count()} cores", *about])


def write_json(path: str | None, options: argparse.Namespace, results: dict) -> None:
    """Write `results`, what they were measured with and how busy the machine was; nothing when `path` is None."""
    if path is None:
        return
    machine = {
        **provenance("cpu"),
        "cores": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    write_text(path, json.dumps({"options": vars(options), **machine, **results}, indent=2) + "\n")


def write_photographs(root: Path, count: int, size: tuple[int, int], classes: int = 4, seed: int = 0) -> Path:
    """Write `count` JPEGs of quality 90 and of `size` (width, height) into `classes` folders of `root`; return it.

    Noise at all scales, nearly as strong at the fine ones as at the coarse: about 87 kB at 500x375.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        folder = root / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        total, cell = np.zeros((size[1], size[0], 3), dtype="float32"), max(size)
        while cell:
            shape = (size[1] // cell + 2, size[0] // cell + 2)
            grey, colour = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, 3))
            noise = (grey + 0.3 * colour).astype("float32")
            planes = [Image.fromarray(noise[:, :, i]).resize(size, Image.BICUBIC) for i in range(3)]
            total += cell**0.1 * np.stack(planes, axis=2)
            cell //= 2
        pixels = np.clip(128 + 50 * total / total.std(), 0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=90)
    return root

"""Checkpoints: written whole or not at all, read safely, loaded exactly; training/state.py says what is in one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from checkpoints import pdparams
from checkpoints.entries import label, shown, validate, validate_best, validate_method, validate_run
from utils.errors import WeightsError, names
from utils.files import replacing

FORMAT_VERSION = 1

__all__ = [
    "FORMAT_VERSION", "load_exactly", "read", "save",
    "validate", "validate_best", "validate_method", "validate_run",
]  # fmt: skip


def save(path: str | os.PathLike, content: dict, when_whole: Callable[[], None] = lambda: None) -> None:
    """Write `content` by `paddle.save`; `path` holds the old file or the whole new one, never less.

    `when_whole` is called when the new file is written, before it takes the place of the old one.
    """
    with replacing(path) as temporary:
        paddle.save(content, str(temporary), protocol=4)
        when_whole()


def read(path: str | os.PathLike) -> dict:
    """Read a checkpoint of this project or of the reference; nothing in the file is executed.

    Raises:
        WeightsError: the file is absent, damaged, refused, of another format version, or has no entry `model`.
    """
    content = pdparams.load(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise WeightsError(f"{path}: not a checkpoint: it has no entry 'model'")
    version = content.get("format_version", FORMAT_VERSION)
    if type(version) is not int or version != FORMAT_VERSION:
        raise WeightsError(f"{path}: written in format {shown(version)}, this version reads format {FORMAT_VERSION}")
    return content


def load_exactly(layer: nn.Layer, state: dict[str, np.ndarray], origin: str | Path) -> None:
    """Set every tensor of `layer` from `state`; a float may be of any size, bfloat16 is uint16 as paddle.save has it.

    Raises:
        WeightsError: names that are missing, unknown or of another shape are listed, an entry of another type, with a
            value that is not finite or with a negative variance is named; nothing is changed.
    """
    wanted = layer.state_dict()
    missing = [name for name in wanted if name not in state]
    unknown = [label(name) for name in state if name not in wanted]
    misshapen = [
        f"{name} {list(np.shape(state[name]))} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and list(np.shape(state[name])) != list(tensor.shape)
    ]
    complaints = [
        f"{kind}: {names(found, 4)}"
        for kind, found in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
        if found
    ]
    if complaints:
        raise WeightsError(f"{origin} does not fit the network: {'; '.join(complaints)}")
    values = {name: _converted(state[name], tensor, f"{origin}: {name}") for name, tensor in wanted.items()}
    for name, tensor in wanted.items():
        tensor.set_value(values[name])


def _converted(array: np.ndarray, tensor: paddle.Tensor, entry: str) -> np.ndarray:
    dtype = np.dtype(str(tensor.dtype).replace("paddle.", ""))
    if dtype.kind != "f":
        if array.dtype != dtype:
            raise WeightsError(f"{entry} is {shown(array)}; accepted is {dtype}")
        return array
    if array.dtype == np.uint16:  # the upper half of a float32
        array = np.asarray(array.astype("u4") << 16).view("f4")
    if array.dtype.kind != "f":
        raise WeightsError(f"{entry} is {shown(array)}; accepted are floats, and uint16 for bfloat16")
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise WeightsError(f"{entry} has values that are not finite in {dtype}; accepted are weights of finite numbers")
    if entry.endswith("._variance") and (array < 0).any():
        raise WeightsError(f"{entry} has negative values; accepted are variances from 0 upwards")
    return array

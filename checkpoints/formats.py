"""Files of weights: `.pdparams`, safetensors and torch's, told apart by how they begin, not by their suffix."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from checkpoints import pdparams, torchfile
from checkpoints.entries import label
from utils.errors import WeightsError

_PICKLE = b"\x80"

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read(path: str | os.PathLike) -> dict:
    """Return what a file of weights holds, with NumPy arrays for its tensors and under the names it has.

    Returns:
        From a `.pdparams` file the dictionary that was saved: arrays by name, or a checkpoint with such dictionaries
        in it. From the others arrays by name, every float in float32; of a torch checkpoint the weights alone.

    Raises:
        WeightsError: there is no such file, it is damaged or of no known format, or it holds something else.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(32)
    except OSError as failure:
        raise WeightsError(f"{path}: cannot be read: {failure.strerror}") from failure
    if start.startswith(torchfile.ZIP) or torchfile.STREAM in start:
        return torchfile.read(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if not start.startswith(_PICKLE):
        raise WeightsError(
            f"{path}: not a file of weights, it starts with {start[:16]!r}; accepted are .pdparams, .safetensors and "
            "torch files"
        )
    content = pdparams.load(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}; accepted is a dictionary of arrays")
    return content


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors  # only where there is such a file

    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as failure:
        raise WeightsError(f"{path}: damaged or cut short, not a readable safetensors file: {failure}") from failure
    arrays = {}
    for name, tensor in tensors:
        kind, shape = tensor["dtype"], tensor["shape"]
        if kind not in _DTYPES:
            raise WeightsError(f"{path}: {label(name)} is of type {kind}; accepted are {', '.join(_DTYPES)}")
        array = np.frombuffer(tensor["data"], _DTYPES[kind])
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore", invalid="ignore"):  # what a float32 cannot hold the loader refuses
            array = array.astype("float32") if array.dtype.kind == "f" else array
        try:
            arrays[name] = array.reshape(shape)
        except (ValueError, OverflowError) as failure:  # without elements a shape may be anything
            raise WeightsError(f"{path}: {label(name)} has a shape that no array can have") from failure
    return arrays

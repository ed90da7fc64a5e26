"""Files of weights: `.pdparams`, safetensors and torch's, told apart by how they begin, not by their suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from checkpoints import pdparams
from utils.errors import WeightsError

_ZIP = b"PK\x03\x04"
_TORCH_STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch before 1.6: a pickled magic number comes first
_PICKLE = b"\x80"
_NESTED = ("state_dict", "model")  # where training scripts put the weights

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
        in it. From the others arrays by name, every float in float32; a torch checkpoint's `state_dict` or `model`
        alone.

    Raises:
        WeightsError: there is no such file, it is damaged or of no known format, it holds something else, or it is
            torch's and torch is not installed.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as failure:
        raise WeightsError(f"{path}: cannot be read: {failure.strerror}") from failure
    if start.startswith((_ZIP, _TORCH_STREAM)):
        return _read_torch(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if not start.startswith(_PICKLE):
        raise WeightsError(
            f"{path}: not a file of weights, it starts with {start!r}; accepted are .pdparams, .safetensors and "
            "torch files"
        )
    content = pdparams.load(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}; accepted is a dictionary of arrays")
    return content


def _read_safetensors(path):
    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as failure:
        raise WeightsError(f"{path}: damaged or cut short, not a readable safetensors file: {failure}") from failure
    arrays = {}
    for name, tensor in tensors:
        kind = tensor["dtype"]
        if kind not in _DTYPES:
            raise WeightsError(f"{path}: {name} is of type {kind}; accepted are {', '.join(_DTYPES)}")
        array = np.frombuffer(tensor["data"], _DTYPES[kind]).reshape(tensor["shape"])
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        arrays[name] = array.astype("float32") if array.dtype.kind == "f" else array
    return arrays


def _read_torch(path):
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path} is a torch file and torch is not installed; install it (pip install torch), or convert the file "
            "where it is: safetensors.torch.save_file(torch.load(FILE, map_location='cpu', weights_only=True), "
            "'weights.safetensors'), taking the entry 'state_dict' first where there is one"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as failure:  # torch raises whatever its parts raise
        reason = str(failure).strip().split("\n")[0]
        raise WeightsError(f"{path}: damaged, or more than tensors; torch says: {reason}") from failure
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}; accepted is a dictionary of tensors")
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            raise WeightsError(f"{path}: {name!r} is a {type(value).__name__}; accepted are tensors by name")
        if value.layout is not torch.strided or value.is_quantized:
            raise WeightsError(f"{path}: {name} is sparse or quantised; accepted are dense tensors")
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in content.items()
    }

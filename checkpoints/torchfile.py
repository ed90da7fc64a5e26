"""Read the weights in torch's files without torch, and without running anything in them.

Two forms: a zip archive `NAME/data.pkl` with `NAME/data/KEY` for each storage, and before torch 1.6 a stream of pickles
(magic number, protocol, system, object, keys of the storages) followed by the storages, each a count and its data. In
both the object is a pickle whose tensors refer to storages by key. What is not a tensor becomes a `Placeholder`.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from checkpoints.torchpickle import BFLOAT16, Placeholder, Storage, Tensor, TorchReader
from checkpoints.unpickler import Refused, is_plain_key, kind, quote, refusals, require

ZIP = b"PK\x03\x04"
STREAM = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, which a pickle header precedes
# the entry that holds the weights, the first of these that a file has
_WRAPPERS = ("state_dict", "model", "ema", "state_dict_ema", "model_ema", "model_state_dict", "net", "network")
_EXPANSION = 4  # what repeated storages and strides of 0 may unfold to, in sizes of the file
_SMALL = 1 << 26  # bytes that any file may unfold to


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the weights in a file of torch's, every float in float32.

    They are the file's dictionary, or the one in its entry `state_dict`, `model` or another of `_WRAPPERS`; whatever
    else the file holds is left out.

    Raises:
        WeightsError: the file cannot be read, is damaged, or an entry among the weights is not a plain tensor.
    """
    with refusals(path, "torch file"):
        with open(path, "rb") as file:
            zipped = file.read(len(ZIP)) == ZIP
        size = path.stat().st_size
        return _read_zip(path, size) if zipped else _read_stream(path.read_bytes())


def _read_zip(path: Path, size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        entries, left = {info.filename: info for info in archive.infolist()}, size

        def entry(name: str) -> bytes:
            nonlocal left
            require(name in entries, f"it lacks its entry {quote(name)}")
            info = entries[name]
            stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
            require(stored, f"its entry {quote(name)} is compressed; accepted are entries as torch stores them")
            left -= info.file_size
            require(left >= 0, "its entries are larger than the file")
            return archive.read(info)

        roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refused(f"a zip archive, but not a torch file: it has {len(roots)} entries NAME/data.pkl")
        root = roots[0]
        order = entry(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
        require(order in (b"little", b"big"), "a byte order other than little and big")
        pickled = entry(f"{root}data.pkl")
        tensors = _weights(TorchReader(io.BytesIO(pickled), len(pickled)).load())

        def data(storage: Storage) -> bytes:
            require(type(storage.key) is str, "a storage whose key is not a text")
            return entry(f"{root}data/{storage.key}")

        return _arrays(tensors, data, "<" if order == b"little" else ">", size)


def _read_stream(content: bytes) -> dict[str, np.ndarray]:
    size, file = len(content), io.BytesIO(content)
    parts = [TorchReader(file, size) for _ in range(5)]
    _, _, _, value, keys = [part.load() for part in parts]
    tensors = _weights(value)
    storages, places, position = parts[3].storages, {}, file.tell()
    require(type(keys) is list and all(map(is_plain_key, keys)), "a malformed list of storages")
    for key in keys:
        require(key in storages, "a storage without a tensor")
        dtype = storages[key].dtype if storages[key].type_name else None
        require(dtype is not None, "a storage of an unknown type")
        count = int.from_bytes(content[position : position + 8], "little", signed=True)
        end = position + 8 + count * dtype.itemsize
        require(position + 8 <= size and count >= 0 and end <= size, "storages that the file cuts short")
        places[key], position = (position + 8, end), end

    def data(storage: Storage) -> memoryview:
        require(storage.key in places, "a tensor without its storage")
        start, end = places[storage.key]
        return memoryview(content)[start:end]

    return _arrays(tensors, data, "<", size)


def unwrapped(value: object) -> object:
    """Return the dictionary that is wrapped in a dictionary by entries of `_WRAPPERS`; of another value, itself."""
    for _ in range(len(_WRAPPERS)):  # a dictionary may hold itself
        held = [value[name] for name in _WRAPPERS if type(value) is dict and type(value.get(name)) is dict]
        value = held[0] if held else value
    return value


def _weights(value: object) -> dict[str, Tensor]:
    value = unwrapped(value)
    if type(value) is not dict:
        raise Refused(f"holds a {_described(value)}; accepted is a dictionary of tensors")
    for name, item in value.items():
        if type(name) is not str or type(item) is not Tensor or not item.storage.type_name:
            raise Refused(f"{quote(name)} is a {_described(item)}; accepted are plain dense tensors by name")
    return value


def _described(value: object) -> str:
    if isinstance(value, Placeholder):
        return ascii(value.name[:60])[1:-1]
    return "tensor of an unknown type" if type(value) is Tensor and not value.storage.type_name else kind(value)


def _arrays(
    tensors: dict[str, Tensor], data: Callable[[Storage], bytes | memoryview], order: str, size: int
) -> dict[str, np.ndarray]:
    left = _EXPANSION * size + _SMALL
    buffers, arrays = {}, {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in buffers:
            buffers[storage.key] = data(storage)
        left -= max(4, storage.dtype.itemsize) * math.prod(tensor.shape)
        require(left >= 0, f"{quote(name)} repeats the same data too often")
        stored = np.frombuffer(buffers[storage.key], storage.dtype.newbyteorder(order))
        arrays[name] = _array(stored[storage.offset : storage.offset + storage.count], tensor, name)
    return arrays


def _array(stored: np.ndarray, tensor: Tensor, name: str) -> np.ndarray:
    shape, steps = tensor.shape, tensor.strides
    end = tensor.offset + sum((n - 1) * step for n, step in zip(shape, steps)) + 1
    inside = 0 in shape or end <= len(stored)
    require(inside and len(stored) == tensor.storage.count, f"{quote(name)} reaches beyond its storage")
    bytes_apart = [0 if 0 in shape else step * stored.itemsize for step in steps]
    start = 0 if 0 in shape else tensor.offset
    view = np.lib.stride_tricks.as_strided(stored[start:], shape, bytes_apart, writeable=False)
    if tensor.storage.type_name == BFLOAT16:
        return np.asarray(view.astype("u4", order="C") << 16).view("f4")
    with np.errstate(over="ignore", invalid="ignore"):  # what a float32 cannot hold the loader refuses
        return view.astype("f4" if view.dtype.kind == "f" else view.dtype.newbyteorder("="), order="C")

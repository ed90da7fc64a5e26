"""Read `.pdparams` files without running anything in them.

A `.pdparams` file is a pickle. The names in `_NAMES` are the only ones it may ask for; each stand-in checks its
arguments, and NumPy sees the state of an array only after it was checked.
"""

from __future__ import annotations

import io
import math
import os
import pickle
from pathlib import Path
from typing import Callable

import numpy as np

from checkpoints.torchfile import STREAM, ZIP
from checkpoints.unpickler import Reader, Refused, StandIn, kind, quote, refusals, require

_DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAX_DIMENSIONS = 32
_MAX_DEPTH = 100
_MAX_ITEMS = 100_000  # or the bytes of the file, when these are more: an item that is not shared takes one at least
_NAME_TABLE = "StructuredToParameterName@@"
_HEADERS = tuple(pickle.PROTO + bytes([protocol]) for protocol in (2, 3, 4, 5))


def load(path: str | os.PathLike) -> object:
    """Return what `paddle.save` wrote to `path`, with NumPy arrays for its tensors.

    As in `paddle.load`, a pair (name, array) becomes the array, and the name table of old files is dropped. An ordered
    dictionary becomes a dictionary, a NumPy scalar a Python one. The arrays are writable, C-contiguous and of native
    byte order; one that the file refers to twice is one array.

    Returns:
        Dictionaries, lists and tuples of text, numbers, booleans, None and arrays of booleans, integers or floats.

    Raises:
        WeightsError: there is no such file, it is damaged, or it holds anything else; nothing in it was run.
    """
    path = Path(path)
    with refusals(path, ".pdparams file"):
        content = _content(path)
        file, size = io.BytesIO(content), len(content)
        value = _Reader(file, size).load()
        require(file.tell() == size, "the file goes on after its pickle")
        del content, file  # the arrays are copied out next: the file need not stay in memory as well
        return _Plain(size).convert(value)


def _content(path: Path) -> bytes:
    if not path.is_file():
        state = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "not there"
        raise Refused(f"it is {state}; a .pdparams file is needed")
    content = path.read_bytes()
    if not content.startswith(_HEADERS) or STREAM in content[:32]:
        raise Refused(f"not a .pdparams file: it {_looks(content)}")
    return content


def _looks(content: bytes) -> str:
    if not content:
        return "is empty"
    if content.startswith(ZIP):
        return "is a zip archive, such as a torch file"
    if STREAM in content[:32]:
        return "is a torch file of the old format"
    if content[8:9] == b"{":
        return "looks like a safetensors file"
    if content.lstrip().startswith(b"<"):
        return "looks like HTML, perhaps the page of a failed download"
    return f"starts with {content[:8]!r}"


class _Bytes:
    """The bytes of a text, `_codecs.encode(text, "latin1")`: protocol 2 writes bytes so."""

    def __init__(self, text: object, encoding: object) -> None:
        require(type(text) is str and encoding in ("latin1", "latin-1"), "bytes in an encoding other than latin1")
        self.text = text


def _size(data: object) -> int:
    """Return how many bytes `_encoded` gives; -1 when `data` is neither bytes nor a text that stands for bytes."""
    data = data.text if type(data) is _Bytes else data
    return len(data) if type(data) in (bytes, str) else -1


def _encoded(data: object) -> bytes:
    """Return the bytes, also of the strings that Python 2 wrote for them."""
    data = data.text if type(data) is _Bytes else data
    return data.encode("latin1") if type(data) is str else data


class _Dtype(StandIn):
    """Stands for a `numpy.dtype`, which is `value` once its state is there."""

    value = None

    def __init__(self, name: object, align: object, copy: object) -> None:
        require(name in _DTYPES, f"an array of type {quote(name)}; accepted are {', '.join(_DTYPES)}")
        self.name = name

    def build(self, state: object) -> None:
        order = state[1]
        require(order in (("<", ">", "|") if self.name[1] == "1" else ("<", ">")), "a type without byte order")
        require(state == (3, order, None, None, None, -1, -1, 0), f"a type that is not plain {self.name}")
        self.value = np.dtype(order + self.name)


class _Array(StandIn):
    """Stands for a `numpy.ndarray`: a state that was checked, and `value` makes the array."""

    dtype = None

    def build(self, state: object) -> None:
        version, shape, dtype, fortran, data = state
        require(version == 1 and type(shape) is tuple and type(fortran) is bool, "an array with a malformed state")
        require(type(dtype) is _Dtype and dtype.value is not None, "an array without a type")
        require(len(shape) <= _MAX_DIMENSIONS, f"an array of more than {_MAX_DIMENSIONS} dimensions")
        require(all(type(n) is int and 0 <= n < 2**31 for n in shape), "an array with a malformed shape")
        self.nbytes = math.prod(shape) * dtype.value.itemsize
        require(_size(data) == self.nbytes, "an array whose data does not fill its shape")
        self.shape, self.dtype, self.order, self.data = shape, dtype.value, "F" if fortran else "C", data

    def value(self) -> np.ndarray:
        view = np.ndarray(self.shape, self.dtype, buffer=_encoded(self.data), order=self.order)
        return np.array(view, dtype=self.dtype.newbyteorder("="), order="C")


def _tuple(items: object) -> tuple:
    require(type(items) is tuple, "a call of tuple() that paddle.save does not write")
    return items


def _ndarray(*_: object) -> None:
    require(False, "a call of numpy.ndarray()")


def _reconstruct(array_type: object, shape: object, code: object) -> _Array:
    sound = array_type is _ndarray and shape == (0,) and _size(code) == 1 and _encoded(code) == b"b"
    require(sound, "an array that is not a plain one")
    return _Array()


def _scalar(dtype: object, data: object) -> float | int | bool:
    require(type(dtype) is _Dtype and dtype.value is not None, "a scalar without a type")
    require(_size(data) == dtype.value.itemsize, "a scalar whose data does not fill its type")
    return np.ndarray((), dtype.value, buffer=_encoded(data)).item()


_NAMES = {
    ("builtins", "tuple"): _tuple,
    ("__builtin__", "tuple"): _tuple,  # protocol 2 keeps the names of Python 2
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",
    ("collections", "OrderedDict"): lambda: {},
    ("_codecs", "encode"): _Bytes,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 1
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Reader(Reader):
    def find_class(self, module: str, name: str) -> Callable:
        require((module, name) in _NAMES, f"it asks for {quote(f'{module}.{name}')}")
        return _NAMES[module, name]


class _Plain:
    """Turns stand-ins into arrays, and bounds what a file of `size` bytes may unfold to by repeating itself."""

    def __init__(self, size: int) -> None:
        self.items, self.nbytes = max(size, _MAX_ITEMS), size
        self.arrays = {}

    def convert(self, value: object, depth: int = 0) -> object:
        self.items -= 1
        require(self.items >= 0, "it repeats parts of itself too often")
        require(depth <= _MAX_DEPTH, f"it contains itself, or is nested more than {_MAX_DEPTH} deep")
        type_ = type(value)
        if value is None or type_ in (bool, int, float, str):
            return value
        if type_ is tuple and len(value) == 2 and type(value[0]) is str and type(value[1]) is _Array:
            return self.array(value[1])
        if type_ is _Array:
            return self.array(value)
        if type_ is dict:
            return {key: self.convert(item, depth + 1) for key, item in value.items() if key != _NAME_TABLE}
        require(type_ in (list, tuple), f"it holds a value of type {kind(value)}")
        return type_([self.convert(item, depth + 1) for item in value])

    def array(self, stand_in: _Array) -> np.ndarray:
        if stand_in not in self.arrays:
            require(stand_in.dtype is not None, "an array without data")
            self.nbytes -= stand_in.nbytes
            require(self.nbytes >= 0, "its arrays repeat the same data")
            self.arrays[stand_in] = stand_in.value()
        return self.arrays[stand_in]

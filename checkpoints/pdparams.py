"""Read `.pdparams` files without running anything in them.

A `.pdparams` file is a pickle, and a pickle is a program: it can name any function of any module and call it. This
reader carries out only the instructions that `paddle.save` writes, knows only the names in `_NAMES`, and meets each
with a stand-in that checks its arguments. Nothing is imported, nothing that the file names is called, and NumPy sees
the state of an array only after it was found sound.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np

from utils.errors import WeightsError

_DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAX_DIMENSIONS = 32
_MAX_DEPTH = 100
_MAX_ITEMS = 100_000  # or the bytes of the file, when these are more: an item that is not shared takes one at least
_MAX_KEY = 2**61 - 2  # larger integers share hashes, and a dictionary of such keys takes quadratic time
_NAME_TABLE = "StructuredToParameterName@@"
_HEADERS = tuple(pickle.PROTO + bytes([protocol]) for protocol in (2, 3, 4, 5))
_TORCH_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT "
    "BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD"
)


class _Refused(Exception):
    """What is wrong with a file, said by this reader."""


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
    try:
        content = _content(path)
        size, value = len(content), _Reader(content).load()
        del content  # the arrays are copied out next: the file need not stay in memory as well
        return _Plain(size).convert(value)
    except _Refused as failure:
        raise WeightsError(f"{path}: {failure}") from failure
    except OSError as failure:
        raise WeightsError(f"{path}: cannot be read: {failure.strerror}") from failure
    except MemoryError as failure:
        raise WeightsError(f"{path}: does not fit into memory") from failure
    except Exception as failure:
        raise WeightsError(f"{path}: damaged or cut short, not a readable .pdparams file") from failure


def _content(path: Path) -> bytes:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "not there"
        raise _Refused(f"it is {kind}; a .pdparams file is needed")
    content = path.read_bytes()
    if not content.startswith(_HEADERS) or content.startswith(_TORCH_MAGIC):
        raise _Refused(f"not a .pdparams file: it {_looks(content)}")
    return content


def _looks(content: bytes) -> str:
    if not content:
        return "is empty"
    if content.startswith(b"PK\x03\x04"):
        return "is a zip archive, such as a torch file"
    if content.startswith(_TORCH_MAGIC):
        return "is a torch file of the old format"
    if content[8:9] == b"{":
        return "looks like a safetensors file"
    if content.lstrip().startswith(b"<"):
        return "looks like HTML, perhaps the page of a failed download"
    return f"starts with {content[:8]!r}"


def _check(sound: bool, otherwise: str) -> None:
    if not sound:
        raise _Refused(f"refused: {otherwise}")


def _kind(value) -> str:
    return type(value).__name__.strip("_").lower()


def _quote(value) -> str:
    return ascii(value[:60]) if type(value) is str else _kind(value)


class _Bytes:
    """The bytes of a text, `_codecs.encode(text, "latin1")`: protocol 2 writes bytes so."""

    def __init__(self, text, encoding):
        _check(type(text) is str and encoding in ("latin1", "latin-1"), "bytes in an encoding other than latin1")
        self.text = text


def _text_or_bytes(data):
    return data.text if type(data) is _Bytes else data


def _size(data) -> int:
    """Return how many bytes `_encoded` gives; -1 when `data` is neither bytes nor a text that stands for bytes."""
    data = _text_or_bytes(data)
    return len(data) if type(data) in (bytes, str) else -1


def _encoded(data) -> bytes:
    """Return the bytes, also of the strings that Python 2 wrote for them."""
    data = _text_or_bytes(data)
    return data.encode("latin1") if type(data) is str else data


class _Dtype:
    """Stands for a `numpy.dtype`, which is `value` once its state is there."""

    value = None

    def __init__(self, name, align, copy):
        _check(name in _DTYPES, f"an array of type {_quote(name)}; accepted are {', '.join(_DTYPES)}")
        self.name = name

    def build(self, state):
        order = state[1]
        _check(order in (("<", ">", "|") if self.name[1] == "1" else ("<", ">")), "a type without byte order")
        _check(state == (3, order, None, None, None, -1, -1, 0), f"a type that is not plain {self.name}")
        self.value = np.dtype(order + self.name)


class _Array:
    """Stands for a `numpy.ndarray`: a state that was checked, and `value` makes the array."""

    dtype = None

    def build(self, state):
        version, shape, dtype, fortran, data = state
        _check(version == 1 and type(shape) is tuple and type(fortran) is bool, "an array with a malformed state")
        _check(type(dtype) is _Dtype and dtype.value is not None, "an array without a type")
        _check(len(shape) <= _MAX_DIMENSIONS, f"an array of more than {_MAX_DIMENSIONS} dimensions")
        _check(all(type(n) is int and 0 <= n < 2**31 for n in shape), "an array with a malformed shape")
        self.nbytes = math.prod(shape) * dtype.value.itemsize
        _check(_size(data) == self.nbytes, "an array whose data does not fill its shape")
        self.shape, self.dtype, self.order, self.data = shape, dtype.value, "F" if fortran else "C", data

    def value(self) -> np.ndarray:
        view = np.ndarray(self.shape, self.dtype, buffer=_encoded(self.data), order=self.order)
        return np.array(view, dtype=self.dtype.newbyteorder("="), order="C")


def _tuple(items):
    _check(type(items) is tuple, "a call of tuple() that paddle.save does not write")
    return items


def _empty_bytes():
    return b""


def _empty_dict():
    return {}


def _ndarray(*_):
    _check(False, "a call of numpy.ndarray()")


def _reconstruct(kind, shape, code):
    sound = kind is _ndarray and shape == (0,) and _size(code) == 1 and _encoded(code) == b"b"
    _check(sound, "an array that is not a plain one")
    return _Array()


def _scalar(dtype, data):
    _check(type(dtype) is _Dtype and dtype.value is not None, "a scalar without a type")
    _check(_size(data) == dtype.value.itemsize, "a scalar whose data does not fill its type")
    return np.ndarray((), dtype.value, buffer=_encoded(data)).item()


_NAMES = {
    ("builtins", "tuple"): _tuple,
    ("__builtin__", "tuple"): _tuple,  # protocol 2 keeps the names of Python 2
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
    ("collections", "OrderedDict"): _empty_dict,
    ("_codecs", "encode"): _Bytes,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 1
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Dispatch(dict):
    """What carries out each instruction, by opcode; an opcode that is not there is refused."""

    def __missing__(self, opcode):
        instruction = pickletools.code2op.get(chr(opcode))
        if instruction is None:
            raise _Refused(f"damaged: {opcode:#04x} is not a pickle instruction")
        raise _Refused(f"refused: the pickle instruction {instruction.name}")


class _Reader(pickle._Unpickler):
    """The unpickler in Python: its instructions can be narrowed, and a huge memo index costs it nothing."""

    dispatch = _Dispatch(
        (opcode, pickle._Unpickler.dispatch[opcode])
        for opcode in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
    )

    def __init__(self, content: bytes):
        self.size, self.file = len(content), io.BytesIO(content)
        super().__init__(self.file, encoding="latin1")

    def load(self):
        value = super().load()
        _check(not self.read(1), "the file goes on after its pickle")
        return value

    def find_class(self, module, name):
        _check((module, name) in _NAMES, f"it asks for {_quote(f'{module}.{name}')}")
        return _NAMES[module, name]

    def load_frame(self):
        (length,) = struct.unpack("<Q", self.read(8))
        _check(length <= self.size - self.file.tell(), "a frame that is longer than the file")
        self._unframer.load_frame(length)

    def load_build(self):
        state = self.stack.pop()
        _check(type(self.stack[-1]) in (_Array, _Dtype), "a state for something other than an array")
        self.stack[-1].build(state)

    def load_setitem(self):
        items = self.stack[-2:]
        del self.stack[-2:]
        self._fill(items)

    def load_setitems(self):
        self._fill(self.pop_mark())

    def _fill(self, items):
        target = self.stack[-1]
        _check(type(target) is dict and len(items) % 2 == 0, "items for something other than a dictionary")
        for key, value in zip(items[::2], items[1::2]):
            plain = type(key) is str or (type(key) in (int, bool) and abs(key) <= _MAX_KEY)
            _check(plain, f"a key of type {_kind(key)}; accepted are text and integers below 2**61")
            target[key] = value

    dispatch[pickle.FRAME[0]] = load_frame
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


class _Plain:
    """Turns stand-ins into arrays, and bounds what a file of `size` bytes may unfold to by repeating itself."""

    def __init__(self, size: int):
        self.items, self.nbytes = max(size, _MAX_ITEMS), size
        self.arrays = {}

    def convert(self, value, depth: int = 0):
        self.items -= 1
        _check(self.items >= 0, "it repeats parts of itself too often")
        _check(depth <= _MAX_DEPTH, f"it contains itself, or is nested more than {_MAX_DEPTH} deep")
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is tuple and len(value) == 2 and type(value[0]) is str and type(value[1]) is _Array:
            return self.array(value[1])
        if kind is _Array:
            return self.array(value)
        if kind is dict:
            return {key: self.convert(item, depth + 1) for key, item in value.items() if key != _NAME_TABLE}
        _check(kind in (list, tuple), f"it holds a value of type {_kind(value)}")
        return kind([self.convert(item, depth + 1) for item in value])

    def array(self, stand_in: _Array) -> np.ndarray:
        if stand_in not in self.arrays:
            _check(stand_in.dtype is not None, "an array without data")
            self.nbytes -= stand_in.nbytes
            _check(self.nbytes >= 0, "its arrays repeat the same data")
            self.arrays[stand_in] = stand_in.value()
        return self.arrays[stand_in]

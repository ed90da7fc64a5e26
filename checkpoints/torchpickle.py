"""What the pickles in torch's files say: tensors as shapes and strides over storages, and nothing that is run."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from checkpoints.unpickler import Reader, is_plain_key, kind, require

_MAX_DIMENSIONS = 32
BFLOAT16 = "bfloat16"  # the upper half of a float32
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


class Placeholder:
    """Stands for whatever a file names besides tensors: it can be called and filled, and nothing happens."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> Placeholder:
        return self

    append = extend = add = __call__


@dataclass(frozen=True)
class Storage:
    """Elements of one type in the file, or a part of them.

    Attributes:
        key: names it in the file.
        type_name: of its elements, as NumPy writes it; "" where tensors of it cannot be read.
        count: its elements.
        offset: of a view of another storage, in elements.
    """

    key: object
    type_name: str
    count: int
    offset: int = 0

    @property
    def dtype(self) -> np.dtype:
        """The type of an element as stored, in the byte order of this machine."""
        return np.dtype("u2" if self.type_name == BFLOAT16 else self.type_name)


@dataclass(frozen=True)
class Tensor:
    """A shape over a storage; offset and strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


def _tensor(storage: object, offset: object, shape: object, strides: object) -> Tensor:
    require(type(storage) is Storage, "a tensor without a storage")
    require(type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides), "a tensor of no shape")
    require(len(shape) <= _MAX_DIMENSIONS, f"a tensor of more than {_MAX_DIMENSIONS} dimensions")
    numbers = (offset, *shape, *strides)
    require(all(type(n) is int and 0 <= n < 2**48 for n in numbers), "a tensor with a malformed shape")
    return Tensor(storage, offset, shape, strides)


def _tensor_v2(storage: object, offset: object, shape: object, strides: object, *more: object) -> Tensor | Placeholder:
    """Make the tensor; `more` are whether it needs a gradient, its hooks, and perhaps pending conjugation or sign."""
    pending = len(more) > 2 and more[2]
    return Placeholder("tensor with pending operations") if pending else _tensor(storage, offset, shape, strides)


def _parameter(tensor: object, *_: object) -> object:
    return tensor


class TorchReader(Reader):
    """Reads a pickle of torch's; what is neither a tensor nor a container becomes a `Placeholder`.

    Attributes:
        storages: those that tensors refer to, by key.
    """

    instructions = (
        f"{Reader.instructions} BINPERSID NEWOBJ NEWOBJ_EX OBJ INST EMPTY_SET ADDITEMS FROZENSET POP POP_MARK DUP"
    )

    def __init__(self, file: io.BytesIO, size: int) -> None:
        super().__init__(file, size)
        self.storages: dict[object, Storage] = {}
        self.names = {
            ("collections", "OrderedDict"): self._ordered,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        }

    def find_class(self, module: str, name: str) -> Callable:
        return self.names.get((module, name)) or Placeholder(f"{module}.{name}")

    def persistent_load(self, pid: object) -> object:
        if type(pid) is tuple and len(pid) == 5:
            pid = (*pid, None)
        if type(pid) is not tuple or len(pid) != 6 or pid[0] != "storage":
            return Placeholder("object outside the file")
        _, type_, key, _, count, view = pid
        require(is_plain_key(key) and type(count) is int and count >= 0, "a malformed storage")
        name = type_.name if isinstance(type_, Placeholder) else ""
        module, _, name = name.rpartition(".")
        root = Storage(key, _STORAGES.get(name, "") if module in ("torch", "torch.cuda") else "", count)
        require(self.storages.setdefault(key, root).type_name == root.type_name, "a storage of two types")
        if view is None:
            return root
        require(type(view) is tuple and len(view) == 3, "a malformed view of a storage")
        _, offset, count = view
        require(type(offset) is int and type(count) is int and min(offset, count) >= 0, "a malformed view of a storage")
        return Storage(key, root.type_name, count, offset)

    def _ordered(self, items: object = ()) -> dict:
        """Stand for the constructor of an ordered dictionary, which Python 2 called with all its pairs."""
        result = {}
        for name, value in items:
            self.fill(result, [name, value])
        return result

    def fill(self, target: object, items: list) -> None:
        if not isinstance(target, Placeholder):
            super().fill(target, items)

    def key(self, key: object) -> object:
        return key if is_plain_key(key) else Placeholder(kind(key))

    def load_build(self) -> None:
        self.stack.pop()  # tensors need no state, and nothing else is used

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_empty_set(self) -> None:
        self.append(Placeholder("set"))

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(Placeholder("frozenset"))

"""Read a pickle without running anything in it.

A pickle is a program: it can name any function of any module and call it. A `Reader` carries out only the instructions
that it lists, and each name that the pickle asks for is met by a stand-in of ours. Nothing is imported, and nothing
that the file names is called.

The unpickler of the standard library that is written in Python is used, `pickle._Unpickler`, because the public one
cannot keep these promises: it sets attributes of whatever a file asks it to, it hashes any key, so that nested tuples
take exponential time, and it allocates as much memory as a memo index or a length in the file says.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import struct
from collections.abc import Iterator
from pathlib import Path

from utils.errors import WeightsError

_MAX_KEY = 2**61 - 2  # larger integers share hashes, and a dictionary of such keys takes quadratic time


class Refused(Exception):
    """The reason why a file is not read."""


def require(sound: bool, otherwise: str) -> None:
    """Refuse the file for the reason `otherwise` unless `sound`."""
    if not sound:
        raise Refused(f"refused: {otherwise}")


def kind(value: object) -> str:
    """Return the name of a value's type, for a message."""
    return type(value).__name__.strip("_").lower()


def quote(value: object) -> str:
    """Return the start of a text in ASCII, or the type of another value."""
    return ascii(value[:60]) if type(value) is str else kind(value)


@contextlib.contextmanager
def refusals(path: Path, accepted: str) -> Iterator[None]:
    """Read a file in the block; whatever is wrong with it becomes one line.

    Raises:
        WeightsError: the file cannot be read, is refused or is damaged.
    """
    try:
        yield
    except Refused as failure:
        raise WeightsError(f"{path}: {failure}") from failure
    except OSError as failure:
        raise WeightsError(f"{path}: cannot be read: {failure.strerror}") from failure
    except MemoryError as failure:
        raise WeightsError(f"{path}: does not fit into memory") from failure
    except Exception as failure:  # a damaged pickle makes the unpickler raise anything
        raise WeightsError(f"{path}: damaged or cut short, not a readable {accepted}") from failure


class StandIn:
    """Stands for an object of the file; `build` receives its state."""

    def build(self, state: object) -> None:
        """Take over the state that the file has for the object."""
        raise NotImplementedError


class _Dispatch(dict):
    """The function of each instruction, by opcode; an opcode without one is refused."""

    def __missing__(self, opcode: int) -> None:
        instruction = pickletools.code2op.get(chr(opcode))
        if instruction is None:
            raise Refused(f"damaged: {opcode:#04x} is not a pickle instruction")
        raise Refused(f"refused: the pickle instruction {instruction.name}")


class Reader(pickle._Unpickler):
    """Carry out the pickle at the position of `file`; a subclass says which names it knows, by `find_class`.

    Args:
        file: in memory: a length in a pickle then never allocates more than the file has.
        size: of the file in bytes.
    """

    instructions = (
        "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT "
        "BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
        "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD"
    )

    def __init__(self, file: io.BytesIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self.file, self.size = file, size
        opcodes = [getattr(pickle, name)[0] for name in self.instructions.split()]
        # the methods of this class, by the names that the standard library has for them
        self.dispatch = _Dispatch((code, getattr(type(self), self.dispatch[code].__name__)) for code in opcodes)

    def load_frame(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        require(length <= self.size - self.file.tell(), "a frame that is longer than the file")
        self._unframer.load_frame(length)

    def load_build(self) -> None:
        state = self.stack.pop()
        require(isinstance(self.stack[-1], StandIn), "a state for something other than an array")
        self.stack[-1].build(state)

    def load_setitem(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self.fill(self.stack[-1], items)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.fill(self.stack[-1], items)

    def fill(self, target: object, items: list) -> None:
        """Set keys and values, which alternate in `items`, in the dictionary `target`."""
        require(type(target) is dict and len(items) % 2 == 0, "items for something other than a dictionary")
        for key, value in zip(items[::2], items[1::2]):
            target[self.key(key)] = value

    def key(self, key: object) -> object:
        """Return what stands for `key` in a dictionary."""
        require(is_plain_key(key), f"a key of type {kind(key)}; accepted are text and integers below 2**61")
        return key


def is_plain_key(key: object) -> bool:
    """Return whether `key` is quick to hash, and no file can choose many of one hash."""
    return type(key) is str or (type(key) in (int, bool) and abs(key) <= _MAX_KEY)

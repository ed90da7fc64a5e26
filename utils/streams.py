"""Standard output and error that cannot end a run: closed, full, without Unicode, or with nobody reading them."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys

from utils import system

ENCODE = "file-names-or-escapes"  # how characters are written that an encoding lacks
_GONE = {errno.EPIPE, *([errno.EINVAL] if system.WINDOWS else ())}  # a reader that has gone away


class _Stream(io.FileIO):
    """A file by its number that accepts everything: what cannot be written is dropped.

    Attributes:
        failure: the first error of the system, None before; a reader or a terminal that has gone away is none.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        self.failure: OSError | None = None
        self._terminal = self.isatty()

    def write(self, data: bytes) -> int:
        try:
            while (written := super().write(data)) is None:  # the stream does not block, and its reader is slow
                select.select([], [self], [])
            return written
        except OSError as error:
            if error.errno not in _GONE and not self._terminal:
                self.failure = self.failure or error
            return len(data)


def protect() -> None:
    """Replace standard output and error by streams whose writes never fail; later calls change nothing.

    Characters that the encoding lacks are written as escapes such as `\\u732b`, on standard output the bytes of a file
    name that are not UTF-8 as they are. A stream that was closed when the process was started leads nowhere, so that no
    file that is opened later takes its number. A stream that was replaced before, as in a notebook, stays. So does the
    console of Windows, which takes every character: as bytes it would show those of its code page.
    """
    codecs.register_error(ENCODE, _encode)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _occupy(number)
        stream = getattr(sys, name)
        if number == 0 or stream is not getattr(sys, f"__{name}__") or isinstance(_raw(stream), _Stream):
            continue
        if type(_raw(stream)).__name__ == "_WindowsConsoleIO":
            stream.reconfigure(errors="backslashreplace")
            continue
        raw = _Stream(number if stream is not None else os.open(os.devnull, os.O_WRONLY))
        if stream is not None:
            stream.flush()
        settings = {
            "encoding": "utf-8" if stream is None else stream.encoding,
            "errors": ENCODE if name == "stdout" else "backslashreplace",
            "line_buffering": name == "stderr" or raw.isatty(),
            "write_through": getattr(stream, "write_through", False),  # python -u
        }
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **settings))
        setattr(sys, f"__{name}__", getattr(sys, name))


def failure() -> OSError | None:
    """Write out what standard output still holds; return its first error, None if all was written."""
    raw = _raw(sys.stdout)
    if not isinstance(raw, _Stream):
        return None
    sys.stdout.flush()
    return raw.failure


def _raw(stream: object) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:  # closed: the lowest free number is the one that is opened next
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def _encode(error: UnicodeError) -> tuple[str | bytes, int]:
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)

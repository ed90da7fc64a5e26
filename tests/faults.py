"""A disk that fails, or a process that dies, at a chosen change of a file.

python -m tests.faults AT FOLDER RUNS: finetune.py's main for each list of flags in the JSON file RUNS, in this one
process, which is killed at change number AT below FOLDER (0: never).
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path

from utils import startup

startup.configure()

import finetune


class Changes:
    """Count the changes of files below a folder and call `act` before number `at` and before each one after it.

    Counted are files opened for writing, writes through Python's own files, flushes to the disk, renames, changes by
    file number. Use as a context manager; `count` is their number so far.

    Args:
        folder: where changes are counted.
        at: the number of the first change that meets `act`, from 1; 0 for none.
        act: called with the file's name, or None where the system would not say it.
    """

    def __init__(self, folder: str | os.PathLike, at: int, act):
        self.folder, self.at, self.act, self.count = os.path.realpath(folder), at, act, 0
        self._real = {(io, "open"): io.open, (builtins, "open"): builtins.open}
        self._real.update({(os, name): getattr(os, name) for name in ("replace", "fsync", "truncate")})

    def __enter__(self) -> Changes:
        for (module, name), function in self._real.items():
            setattr(module, name, self._open if name == "open" else self._counted(function))
        return self

    def __exit__(self, *_):
        for (module, name), function in self._real.items():
            setattr(module, name, function)

    def hit(self, name=None) -> None:
        """Count one change."""
        self.count += 1
        if self.at and self.count >= self.at:
            self.act(name)

    def _counted(self, function):
        def counted(first, *others):
            if isinstance(first, int) or self._inside(first):
                self.hit(None if isinstance(first, int) else os.fspath(first))
            return function(first, *others)

        return counted

    def _inside(self, path) -> bool:
        return os.path.realpath(path).startswith(self.folder + os.sep)

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *others):
        if isinstance(file, int) or not set(mode) & set("wax+") or not self._inside(file):
            return self._real[io, "open"](file, mode, buffering, encoding, errors, newline, *others)
        self.hit(os.fspath(file))
        raw = _Raw(file, "".join(letter for letter in mode if letter not in "bt"))
        raw.changes = self
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _Raw(io.FileIO):
    def write(self, data):
        self.changes.hit()
        return super().write(data)


def failing(number: int):
    """Return an `act` that raises the system's error `number`."""

    def fail(name):
        raise OSError(number, os.strerror(number), *([name] if name else []))

    return fail


def die(_name) -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(at: str, folder: str, runs: str) -> None:
    """Run each list of flags; die at change `at`."""
    with Changes(folder, int(at), die) if int(at) else contextlib.nullcontext():
        for flags in json.loads(Path(runs).read_text()):
            finetune.main(flags)


if __name__ == "__main__":
    main(*sys.argv[1:])

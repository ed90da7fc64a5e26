"""A disk that fails, or a process that dies, at a chosen change of a file.

python -m tests.faults {whole,kill,fill} FOLDER FILE reads a JSON file, calls finetune.py's main and prints JSON:
whole makes each run of the file in this one process; kill makes each in a process of its own, which is killed at a
change below FOLDER or after a step; fill makes each with FOLDER on a disk of so many KiB.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from utils import startup

startup.configure()

import finetune
from tests.scripts import call


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


def whole(_folder: str, runs: list[list[str]]) -> list[str]:
    """Make each run, a list of flags, to its end; return what was said on stderr but warnings."""
    for flags in runs:
        done = call("finetune.py", *flags, cwd=".")
        if done.returncode or [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]:
            return [done.stderr]
    return []


def kill(folder: str, runs: list[dict]) -> dict[str, list[str] | list[int]]:
    """Make each run in a process of its own, one after the other, and kill it.

    Args:
        folder: where changes are counted.
        runs: "flags"; and "change", the number of the change before which the process dies, or "steps", after so many
            of which it is killed, and "pause", the seconds from the last of them to the kill.

    Returns:
        The codes with which they ended, and the names of the files that were found half written.
    """
    codes, half = [], set()
    for run in runs:
        reading, writing = os.pipe()
        child = os.fork()  # of a process that has computed nothing: two seconds less than a new one
        if not child:
            try:
                os.dup2(writing, 1)
                os.close(reading)
                os.close(writing)
                with Changes(folder, run["change"], die) if "change" in run else contextlib.nullcontext():
                    finetune.main(run["flags"])
            finally:
                os._exit(1)
        os.close(writing)
        left = run.get("steps", 0)
        with open(reading) as lines:
            for line in lines:
                left -= line.startswith("step") and "evaluation" not in line
                if left == 0 and "steps" in run:
                    time.sleep(run["pause"])
                    os.kill(child, signal.SIGKILL)
                    break
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        half.update(path.name for path in Path(folder).rglob("*.tmp"))
    return {"codes": codes, "half": sorted(half)}


def fill(folder: str, runs: dict[str, list[str]]) -> dict[str, list]:
    """Make a run on a disk of each size; return its exit code and what it said, and keep what it leaves as left_SIZE.

    The process must have a mount namespace of its own.
    """
    outcomes = {}
    for size, flags in runs.items():
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", folder], check=True)
        done = call("finetune.py", *flags, cwd=".")
        shutil.copytree(folder, f"left_{size}")
        subprocess.run(["umount", "--lazy", folder], check=True)
        outcomes[size] = [done.returncode, done.stdout, done.stderr]
    return outcomes


def main(work: str, folder: str, file: str) -> None:
    """Do `work` and print its result as JSON."""
    print(json.dumps({"whole": whole, "kill": kill, "fill": fill}[work](folder, json.loads(Path(file).read_text()))))


if __name__ == "__main__":
    main(*sys.argv[1:])

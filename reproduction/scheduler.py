"""Many commands on a few devices: one process on each device, failures recorded, signals forwarded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import Interrupted
from utils.signals import Stop
from utils.system import WINDOWS, lock

PAUSE = 0.1  # seconds between two polls of the processes
# so that Ctrl-C in a terminal reaches the processes once, from here; Windows hands Ctrl-Break on to such a group only
_APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if WINDOWS else {"start_new_session": True}
# asks Linux for SIGTERM when the parent dies (PR_SET_PDEATHSIG is 1), then becomes the command
_BIND = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(143); os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class Job:
    """Commands to be run one after the other.

    Attributes:
        name: unique name.
        commands: each command without its device, and the file that exists once it has succeeded.
        stderr: file for their standard error.
        locked: files of which any process working on the same job keeps one locked.
    """

    name: str
    commands: list[tuple[list[str], Path]]
    stderr: Path
    locked: Sequence[Path]

    def next(self) -> tuple[list[str], Path] | None:
        """Return the first command whose file does not exist; None when all do."""
        return next((entry for entry in self.commands if not entry[1].exists()), None)


@dataclass
class _Working:
    job: Job
    product: Path
    process: subprocess.Popen
    began: float


class Pool:
    """Runs jobs, at most one on each device at a time.

    When this process dies of a signal that it cannot forward, Linux sends SIGTERM to the others, and they save and
    stop; on other systems they run to their end.

    Args:
        devices: value of `--gpu` for each process.
        ended: called with each job that has ended, its seconds, and the reason if it failed.
        say: called with each message.
    """

    def __init__(
        self,
        devices: list[int],
        ended: Callable[[Job, float, str | None], None],
        say: Callable[[str], None] = print,
    ) -> None:
        self.devices, self.ended, self.say = devices, ended, say
        self.working: dict[int, _Working] = {}  # by position in `devices`
        self._announced = False  # that all of them wait for another process

    def run(self, jobs: list[Job]) -> None:
        """Run `jobs` in order as devices become free; a failure ends one job, not the others.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when every process has saved and stopped.
        """
        waiting, forwarded = list(jobs), False
        with Stop() as stop:
            try:
                while self.working or (waiting and not stop.signal):
                    if not stop.signal:
                        self._fill(waiting)
                    elif not forwarded:
                        self._forward(stop.signal)
                        forwarded = True
                    time.sleep(PAUSE)
                    self._poll(stopping=stop.signal is not None)
            finally:
                self._kill()  # a no-op unless there was an error here or a second SIGINT
        if stop.signal:
            raise Interrupted(stop.signal, "every process has saved and stopped; the same command goes on from there")

    def _fill(self, waiting: list[Job]) -> None:
        for slot in range(len(self.devices)):
            free = next((job for job in waiting if slot not in self.working and not any(map(in_use, job.locked))), None)
            if free is not None:
                waiting.remove(free)
                self._start(slot, free, time.monotonic())
        if waiting and not self.working and not self._announced:
            held = next(filter(in_use, waiting[0].locked), waiting[0].locked[0])
            self.say(f"waiting for another process, which is still writing {held}")
            self._announced = True

    def _start(self, slot: int, job: Job, began: float) -> None:
        entry = job.next()
        if entry is None:  # another process, which it waited for, has done it
            self.ended(job, 0.0, None)
            return
        command, product = entry
        job.stderr.parent.mkdir(parents=True, exist_ok=True)
        with open(job.stderr, "wb") as stderr:
            process = subprocess.Popen(
                _bound([*command, "--gpu", str(self.devices[slot])]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                **_APART,
            )
        self.working[slot] = _Working(job, product, process, began)

    def _poll(self, stopping: bool) -> None:
        for slot, work in list(self.working.items()):
            code = work.process.poll()
            if code is None:
                continue
            del self.working[slot]
            if code == 0 and work.job.next() is not None and work.product.exists() and not stopping:
                self._start(slot, work.job, work.began)
            elif code == 0 and work.job.next() is None:
                self.ended(work.job, time.monotonic() - work.began, None)
            elif not stopping:
                self.ended(work.job, time.monotonic() - work.began, _reason(work, code))

    def _forward(self, number: int) -> None:
        for work in self.working.values():
            work.process.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else number)

    def _kill(self) -> None:
        for work in self.working.values():
            work.process.kill()
        for work in self.working.values():
            work.process.wait()


def _bound(command: list[str]) -> list[str]:
    """Return `command` wrapped so that it does not outlive this process."""
    return [sys.executable, "-I", "-S", "-c", _BIND, str(os.getpid()), *command] if sys.platform == "linux" else command


def _reason(work: _Working, code: int) -> str:
    lines = work.job.stderr.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"exit code {code}" if code > 0 else f"signal {-code}" if code else f"it has not written {work.product}"
    return f"{last} ({how})" if last else how


def in_use(path: Path) -> bool:
    """Return whether a process holds a lock on `path`, as an open `RunLog` does; False without locks."""
    try:
        with open(path, "r+b") as file:
            return not lock(file)
    except OSError:  # no such file
        return False

"""Many commands on a few devices: an executor places jobs, records failures, and hands signals on.

`Executor` is what every way to run jobs has in common: `submit`, `wait` and `cancel`, and the loop over them. `Pool` is
this machine; `reproduction.cluster` is a Ray cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
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


class Executor(ABC):
    """Runs jobs somewhere.

    Args:
        ended: called with each job that has ended, its seconds, and the reason if it failed.
        say: called with each message.
    """

    def __init__(self, ended: Callable[[Job, float, str | None], None], say: Callable[[str], None] = print) -> None:
        self.ended, self.say = ended, say

    def run(self, jobs: list[Job]) -> None:
        """Run `jobs`, started in order as devices become free; a failure ends one job, not the others.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when every process has saved and stopped.
        """
        cancelled = False
        with Stop() as stop:
            try:
                for job in jobs:
                    self.submit(job)
                while self.busy:
                    if stop.signal and not cancelled:
                        self.cancel(stop.signal)
                        cancelled = True
                    self.wait()
            finally:
                self.close()
        if stop.signal:
            raise Interrupted(stop.signal, "every process has saved and stopped; the same command goes on from there")

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a job is queued or running."""

    @property
    @abstractmethod
    def running(self) -> int:
        """The number of jobs that are running."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue."""

    @abstractmethod
    def wait(self) -> None:
        """Wait a moment; start what can be started and call `ended` for each job that has ended."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Drop what is queued and hand the signal `number` on to what is running, which saves and stops."""

    @abstractmethod
    def close(self) -> None:
        """End what is still running at once: a no-op unless there was an error here or a second SIGINT."""


@dataclass
class _Working:
    job: Job
    product: Path
    process: subprocess.Popen
    began: float


class Pool(Executor):
    """Runs jobs on this machine, at most one on each device at a time.

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
        super().__init__(ended, say)
        self.devices = devices
        self.working: dict[int, _Working] = {}  # by position in `devices`
        self._waiting: list[Job] = []
        self._stopping = False
        self._announced = False  # that all of them wait for another process

    @property
    def busy(self) -> bool:
        """Whether a job is queued or running."""
        return bool(self.working or self._waiting)

    @property
    def running(self) -> int:
        """The number of jobs that are running."""
        return len(self.working)

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue."""
        self._waiting.append(job)

    def wait(self) -> None:
        """Start jobs on free devices, wait a moment, and call `ended` for each job that has ended."""
        self._fill()
        time.sleep(PAUSE)
        self._poll()

    def cancel(self, number: int) -> None:
        """Drop what is queued and send the signal `number` to every process."""
        self._stopping = True
        self._waiting.clear()
        for work in self.working.values():
            work.process.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else number)

    def close(self) -> None:
        """Kill every process."""
        for work in self.working.values():
            work.process.kill()
        for work in self.working.values():
            work.process.wait()

    def _fill(self) -> None:
        for slot in range(len(self.devices)):
            if slot in self.working:
                continue
            free = next((job for job in self._waiting if not any(map(in_use, job.locked))), None)
            if free is not None:
                self._waiting.remove(free)
                self._start(slot, free, time.monotonic())
        if self._waiting and not self.working and not self._announced:
            first = self._waiting[0].locked
            self.say(f"waiting for another process, which is still writing {next(filter(in_use, first), first[0])}")
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

    def _poll(self) -> None:
        for slot, work in list(self.working.items()):
            code = work.process.poll()
            if code is None:
                continue
            del self.working[slot]
            if code == 0 and work.job.next() is not None and work.product.exists() and not self._stopping:
                self._start(slot, work.job, work.began)
            elif code == 0 and work.job.next() is None:
                self.ended(work.job, time.monotonic() - work.began, None)
            elif not self._stopping:
                self.ended(work.job, time.monotonic() - work.began, _reason(work, code))


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

"""What a task of `reproduction.cluster` does on the machine it was placed on. Nothing here imports PaddlePaddle."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduction.parcels import pack, unpack
from reproduction.scheduler import Job, Pool
from utils.errors import Interrupted

GONE = 143  # exit code of a worker that was ended; Ray takes it for lost and places its run again


@dataclass(frozen=True)
class Terms:
    """What is the same for all tasks.

    Attributes:
        cwd: the working directory, to which paths of commands are relative.
        device: value of `--gpu`; Ray shows a task its own GPU only, as number 0.
        threads: of each process.
        token: a file that every machine sees where the folder of the results is shared; None without such a folder.
        scratch: without a shared folder, where the results go on the machine that makes them.
        without: endings of the files that are not sent back, but deleted.
    """

    cwd: str
    device: int
    threads: int
    token: Path | None
    scratch: Path | None
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        seconds: how long it took.
        reason: why it failed; None if it did not.
        files: without a shared folder, what it left, as of `parcels.pack`.
    """

    seconds: float
    reason: str | None
    files: bytes | None = None


class Board:
    """What tasks report while they run; Ray keeps it as an actor beside the driver."""

    def __init__(self) -> None:
        self._events: list[tuple[str, str]] = []

    def tell(self, name: str, text: str) -> None:
        """Note a message of the run `name`."""
        self._events.append((name, text))

    def take(self) -> list[tuple[str, str]]:
        """Return the messages since the last call, each with the name of its run."""
        events, self._events = self._events, []
        return events


def work(job: Job, terms: Terms, board: Any, inputs: bytes | None, outputs: tuple[str, ...]) -> Result:
    """Make a run on this machine, or as much of it as is left, and return what came of it.

    Args:
        job: its commands, with the paths of this machine.
        terms: what is the same for all tasks.
        board: Ray's handle of the `Board`.
        inputs: without a shared folder, what it reads, as of `parcels.pack`.
        outputs: the names of what is sent back.
    """
    problem = _problem(terms)
    if problem:
        return Result(0.0, problem)
    os.chdir(terms.cwd)
    os.environ["OMP_NUM_THREADS"] = str(terms.threads)
    if terms.scratch is not None and inputs is not None:
        unpack(inputs, terms.scratch, keep=True)
    board.tell.remote(job.name, f"running on {_place()}")
    came: list[Result] = []
    pool = Pool(
        [terms.device],
        lambda _, seconds, reason: came.append(Result(seconds, reason)),
        lambda text: board.tell.remote(job.name, f"{text} (on {_place()})"),
    )
    try:
        pool.run([job])
    except Interrupted as stop:
        if stop.exit_code != 128 + signal.SIGINT:  # which is how Ray cancels; any other signal is the machine's end
            os._exit(GONE)
        raise KeyboardInterrupt from None
    (result,) = came
    if terms.scratch is None or result.reason:
        return result
    return Result(result.seconds, None, _leave(terms, outputs))


def _leave(terms: Terms, outputs: tuple[str, ...]) -> bytes:
    """Return what is sent back; delete here what nobody wants to keep."""
    entries = [(name, terms.scratch / name) for name in outputs]
    content = pack(entries, without=terms.without)
    for _, folder in entries:
        for path in folder.rglob("*"):
            if terms.without and path.name.endswith(terms.without):
                path.unlink()
    return content


def _problem(terms: Terms) -> str | None:
    """Return why no run can be made on this machine."""
    host = socket.gethostname()
    if not os.path.isdir(terms.cwd):
        return f"{host} has no folder {terms.cwd}: every machine needs project, data and weights at one path"
    if terms.token is not None and not os.path.exists(os.path.join(terms.cwd, terms.token)):
        where = os.path.dirname(os.path.join(terms.cwd, terms.token))
        return f"{host} does not see what is in {where}: share that folder, or give --scratch DIR"
    return None


def _place() -> str:
    """Return the machine, and the GPU if Ray gave one."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return socket.gethostname() + (f", GPU {gpus}" if gpus else "")

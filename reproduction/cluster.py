"""Runs as tasks of a Ray cluster: Ray places them, and repeats those whose worker or machine was lost.

One task is one run, and asks for its GPU and CPUs. Results go into a folder that all machines share; a run that is
repeated goes on there from its last saved state. Without such a folder every machine works in a folder of its own, and
what a run leaves comes back as bytes when it has ended.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reproduction.parcels import Parcel, pack, unpack
from reproduction.scheduler import PAUSE, Executor, Job
from reproduction.session import Session
from reproduction.worker import Board, Result, Terms, work

RETRIES = 5  # how often a run is placed again after its worker or machine was lost
PATIENCE = 90.0  # seconds in which a file that another machine wrote must be seen here: NFS caches for up to 60


class Cluster(Executor):
    """Runs jobs as tasks of a Ray cluster.

    Args:
        session: the connection.
        out: folder of the results.
        threads: of each process.
        scratch: folder of the results on every machine where `out` is not shared; None where it is.
        parcels: without a shared folder, for each job by name, the same job with the paths of another machine, and what
            travels.
        without: endings of files that do not travel back.
        ended, say: as of `Executor`.
    """

    def __init__(
        self,
        session: Session,
        out: Path,
        threads: int,
        scratch: Path | None,
        parcels: dict[str, tuple[Job, Parcel]],
        without: tuple[str, ...],
        ended: Callable[[Job, float, str | None], None],
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__(ended, say)
        self._ray, self._out, self._parcels = session.ray, out, parcels
        self._token = None if scratch else out / f".shared-{secrets.token_hex(8)}"
        if self._token is not None:
            for left in out.glob(".shared-*"):  # of a driver that was killed
                left.unlink(missing_ok=True)
            self._token.touch()
        device = 0 if session.share.gpus else -1
        self._terms = Terms(os.getcwd(), device, threads, self._token, scratch, without)
        self._task = session.ray.remote(work).options(
            num_cpus=session.share.cpus, num_gpus=session.share.gpus, max_retries=RETRIES, retry_exceptions=False
        )
        self._board = self._start_board()
        self._jobs: dict[Any, Job] = {}  # by Ray's reference to what will come of it
        self._inputs: dict[tuple, Any] = {}  # by what was packed; each is sent once to a machine
        self._begun: dict[str, int] = {}  # how often each unfinished job was started

    @property
    def busy(self) -> bool:
        """Whether a job is queued or running."""
        return bool(self._jobs)

    @property
    def running(self) -> int:
        """The number of jobs that are running, as far as is known."""
        return len(self._begun)

    def submit(self, job: Job) -> None:
        """Hand a job to Ray, which starts jobs in order."""
        there, parcel = self._parcels.get(job.name, (job, None))
        inputs = self._packed(parcel) if parcel else None
        outputs = parcel.outputs if parcel else ()
        self._jobs[self._task.remote(there, self._terms, self._board, inputs, outputs)] = job

    def wait(self) -> None:
        """Wait a moment, report what tasks said, and call `ended` for each job that has ended."""
        references = list(self._jobs)
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=PAUSE)
        self._listen()
        for reference in done:
            job, result = self._jobs.pop(reference), self._result(reference)
            self._begun.pop(job.name, None)
            if result is not None:
                self.ended(job, result.seconds, result.reason or self._received(job, result))

    def cancel(self, number: int) -> None:
        """Drop what is queued and interrupt what is running, which saves and stops."""
        for reference in self._jobs:
            self._ray.cancel(reference)

    def close(self) -> None:
        """End every task; their processes save and stop."""
        for reference in self._jobs:
            self._ray.cancel(reference, force=True)
        self._ray.kill(self._board)
        if self._token is not None:
            self._token.unlink(missing_ok=True)

    def _start_board(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        return self._ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()

    def _packed(self, parcel: Parcel) -> Any:
        if parcel.inputs not in self._inputs:
            self._inputs[parcel.inputs] = self._ray.put(pack(list(parcel.inputs), parcel.links))
        return self._inputs[parcel.inputs]

    def _listen(self) -> None:
        try:
            events = self._ray.get(self._board.take.remote(), timeout=10)
        except self._ray.exceptions.RayError:  # lost, and started again by Ray: what was said to it is lost too
            return
        for name, text in events:
            again = ""
            if text.startswith("running"):
                self._begun[name] = self._begun.get(name, 0) + 1
                again = " again, its worker or machine was lost" if self._begun[name] > 1 else ""
            self.say(f"{name}: {text}{again}")

    def _result(self, reference: Any) -> Result | None:
        """Return what came of a task; None if it was cancelled."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.TaskCancelledError:
            return None
        except errors.RayTaskError as error:
            if isinstance(getattr(error, "cause", None), (KeyboardInterrupt, errors.TaskCancelledError)):
                return None
            return Result(0.0, str(error).strip().split("\n")[-1])
        except errors.RayError as error:
            return Result(0.0, f"lost {RETRIES + 1} times: {str(error).strip().split(chr(10))[0]}")

    def _received(self, job: Job, result: Result) -> str | None:
        """Put the files of a run where they belong, or wait until they are seen here; return why they are not."""
        if result.files is not None:
            unpack(result.files, self._out)
        end = time.monotonic() + PATIENCE
        while (missing := job.next()) is not None:
            if time.monotonic() > end:
                return f"{missing[1]} was written on another machine and is not seen here"
            time.sleep(1)
        return None

"""Where runs are made: on the devices of this machine, or on a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reproduction import jobs
from reproduction.cluster import Cluster
from reproduction.recipes import Recipe
from reproduction.runs import Run
from reproduction.scheduler import Executor, Job, Pool
from reproduction.session import Session, connected

Ended = Callable[[Job, float, "str | None"], None]
Say = Callable[[str], None]


class Place(Protocol):
    """Where runs are made.

    Attributes:
        slots: how many at a time.
        device: of this machine, for what is prepared here.
        timed_on: device of this machine that is like those of the runs; None if none is known to be.
    """

    slots: int
    device: int
    timed_on: int | None

    def threads(self, recipe: Recipe) -> int:
        """Return the number of threads of each process."""

    def executor(self, out: Path, runs: list[Run], drop: bool, ended: Ended, say: Say) -> Executor:
        """Return what runs the jobs of `runs`; `drop`: their weights are not kept."""


@dataclass(frozen=True)
class Here:
    """The devices of this machine, with one process on each."""

    gpus: list[int]

    @property
    def slots(self) -> int:
        """One for each device."""
        return len(self.gpus)

    @property
    def device(self) -> int:
        """The first one."""
        return self.gpus[0]

    timed_on = device

    def threads(self, recipe: Recipe) -> int:
        """Return the recipe's number of threads, or each process's share."""
        cores = int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0])  # a list has a number for each nesting level
        return recipe.threads or max(1, cores // len(self.gpus))

    def executor(self, out: Path, runs: list[Run], drop: bool, ended: Ended, say: Say) -> Executor:
        """Return a pool of processes."""
        return Pool(self.gpus, ended, say)


@dataclass(frozen=True)
class Ray:
    """A Ray cluster, and the folder on each of its machines for results where none is shared."""

    session: Session
    scratch: str | None
    device, timed_on = -1, None

    @property
    def slots(self) -> int:
        """How many runs fit into the cluster as it is."""
        return self.session.slots

    def threads(self, recipe: Recipe) -> int:
        """Return the recipe's number of threads, or the CPUs that a run asks for."""
        return recipe.threads or self.session.share.cpus

    def executor(self, out: Path, runs: list[Run], drop: bool, ended: Ended, say: Say) -> Executor:
        """Return what hands the jobs to Ray."""
        scratch = jobs.scratch_folder(self.scratch, out) if self.scratch else None
        parcels = {run.name: jobs.parcel(run, scratch) for run in runs} if scratch else {}
        without = (".pdparams",) if drop else ()
        return Cluster(self.session, out, self.threads(runs[0].recipe), scratch, parcels, without, ended, say)


@contextlib.contextmanager
def on_ray(address: str, gpus: float | None, cpus: int | None, scratch: str | None) -> Iterator[Ray]:
    """Connect to a Ray cluster until the block ends; see `reproduction.session.connected`."""
    with connected(address, gpus, cpus) as session:
        yield Ray(session, scratch)

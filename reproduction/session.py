"""A connection to a Ray cluster. Ray is imported only here, and only when it is asked for."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from utils.errors import DeviceError, UsageError
from utils.project import SEARCHED
from utils.signals import ENDING

_SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # no reports, no warning


@dataclass(frozen=True)
class Share:
    """What a run asks of a machine.

    Attributes:
        gpus: 0, or up to 1: runs that ask for a half share a card.
        cpus: a whole number from 1.
    """

    gpus: float
    cpus: int

    def fits(self, resources: dict[str, float]) -> int:
        """Return how many runs fit into the resources of one machine at a time."""
        fit = int(resources.get("CPU", 0) // self.cpus)
        return min(fit, int(resources.get("GPU", 0) / self.gpus + 1e-6)) if self.gpus else fit

    def __str__(self) -> str:
        return f"{self.gpus:g} GPUs and {self.cpus} CPUs"


@contextlib.contextmanager
def connected(address: str, gpus: float | None, cpus: int | None) -> Iterator[Session]:
    """Connect to a cluster, or start one on this machine, until the block ends.

    Args:
        address: "local", "auto" for the cluster that this machine belongs to, or HOST:PORT.
        gpus: of each run; None for 1 where there are any, else 0.
        cpus: of each run; None for 1.

    Raises:
        UsageError: Ray is not installed.
        DeviceError: there is no such cluster, or no machine of it has what a run asks for.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SILENT.items()})
    try:
        import ray
    except ImportError:
        raise UsageError("--ray: Ray is not installed; pip install -r requirements-cluster.txt") from None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    local = {"include_dashboard": False} if address == "local" else {}
    paths = os.pathsep.join([str(SEARCHED), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
            **local,
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DeviceError(
            f"--ray {address}: no Ray cluster; accepted are local, auto and HOST:PORT ({reason})"
        ) from None
    try:
        for number, handler in before.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        yield Session(ray, address, gpus, cpus)
    finally:
        ray.shutdown()


class Session:
    """A connection to a cluster.

    Args:
        ray: the module.
        address: as of `connected`.
        gpus, cpus: likewise.

    Attributes:
        share: what each run asks for.
        slots: how many runs fit into the cluster at a time, as it is now.

    Raises:
        DeviceError: no machine of the cluster has that.
    """

    def __init__(self, ray: Any, address: str, gpus: float | None, cpus: int | None) -> None:
        self.ray = ray
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if gpus is None:
            gpus = 1 if any(machine.get("GPU", 0) >= 1 for machine in machines) else 0
        self.share = Share(gpus, cpus or 1)
        self.slots = sum(self.share.fits(machine) for machine in machines)
        if not self.slots:
            there = ", ".join(sorted(f"{Share(m.get('GPU', 0), int(m.get('CPU', 0)))}" for m in machines))
            raise DeviceError(f"--ray {address}: a run asks for {self.share}; no machine has them: {there}")

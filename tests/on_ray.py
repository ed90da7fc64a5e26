"""Hand jobs to a Ray cluster; each counts slowly in a file, and goes on from there when it is started again.

python -m tests.on_ray ADDRESS FOLDER JOBS
"""

from __future__ import annotations

import sys
from pathlib import Path

from reproduction.cluster import Cluster
from reproduction.scheduler import Job
from reproduction.session import connected
from utils import errors

LAST = 60
COUNT = """
import fcntl, os, pathlib, sys, time
product = pathlib.Path(sys.argv[1])
lock, saved, starts = (product.with_suffix(end) for end in (".lock", ".saved", ".starts"))
held = open(lock, "w")
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a run does, which refuses to be written by two
first = int(saved.read_text()) if saved.exists() else 0
with open(starts, "a") as file:
    print(first, os.getpid(), os.getppid(), file=file)
for step in range(first, int(sys.argv[2])):
    time.sleep(0.1)
    saved.with_suffix(".new").write_text(str(step + 1))
    os.replace(saved.with_suffix(".new"), saved)
product.write_text(saved.read_text())
"""


def main(address: str, folder: str, count: str) -> int:
    """Run the jobs; return how many failed."""
    failed = []

    def ended(job: Job, seconds: float, reason: str | None) -> None:
        print("done" if reason is None else f"FAILED {reason}", job.name, flush=True)
        failed.extend([job] if reason else [])

    with connected(address, 0, 1) as session:
        print("here is", session.ray.get_runtime_context().get_node_id(), flush=True)
        cluster = Cluster(session, Path(folder), 1, None, {}, (), ended, lambda text: print(text, flush=True))
        jobs = [job(Path(folder), f"job{i}") for i in range(int(count))]
        cluster.run([each for each in jobs if each.next()])
    return len(failed)


def job(folder: Path, name: str) -> Job:
    """Return a job that counts."""
    product = folder / f"{name}.product"
    command = [sys.executable, "-I", "-S", "-c", COUNT, str(product), str(LAST)]
    return Job(name, [(command, product)], folder / f"{name}.stderr", [folder / f"{name}.lock"])


if __name__ == "__main__":
    errors.run(lambda: main(*sys.argv[1:]))

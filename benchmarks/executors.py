"""What it costs to hand out a run, on this machine's pool and on a Ray cluster: runs of milliseconds, many of them.

python benchmarks/executors.py --runs 500
python benchmarks/executors.py --runs 500 --ray auto

A run here is a command that writes a file and ends, not a training. The overhead is the time of all runs over their
number; the memory is that of the process that hands them out.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import contextlib
import os
import tempfile

from benchmarks import seconds, show, write_json
from benchmarks.memory import resident
from reproduction.cluster import Cluster
from reproduction.scheduler import Executor, Job, Pool
from reproduction.session import connected
from utils import errors
from utils.commandline import Parser, number

STUB = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('')"


def main(argv: list[str] | None = None) -> None:
    """Run the stubs; print the milliseconds of each, and the memory before and after."""
    parser, count = Parser(description=__doc__.split("\n")[0]), number(int, 1)
    parser.add_argument("--runs", type=count, default=500, help="how many")
    parser.add_argument("--processes", type=count, default=2, help="at a time, without --ray")
    parser.add_argument("--ray", metavar="ADDRESS", help="HOST:PORT, auto or local (this machine's pool)")
    parser.add_argument("--json", metavar="FILE", help="where the numbers go")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    failed: list[str] = []

    def ended(job: Job, _: float, reason: str | None) -> None:
        if reason:
            failed.append(f"{job.name}: {reason}")

    def silent(_: str) -> None:
        pass

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        executor: Executor = Pool([-1] * options.processes, ended, silent)
        if options.ray:
            session = stack.enter_context(connected(options.ray, 0, 1))
            executor = Cluster(session, folder, 1, None, {}, (), ended, silent)
        jobs = [stub(folder, f"run{i}") for i in range(options.runs)]
        before = resident(os.getpid())["VmRSS"] / 1e3
        taken = seconds(lambda: executor.run(jobs))
        after = resident(os.getpid())["VmRSS"] / 1e3
    if failed:
        raise errors.Failure(f"{len(failed)} of {options.runs} runs failed; the first: {failed[0]}")
    name = f"Ray, {session.slots} at a time" if options.ray else f"pool, {options.processes} at a time"
    each = 1e3 * taken / options.runs
    show(
        ("executor", "runs", "seconds", "ms a run", "MB before", "MB after"),
        [(name, options.runs, f"{taken:.1f}", f"{each:.1f}", f"{before:.0f}", f"{after:.0f}")],
    )
    write_json(options.json, options, {"seconds": taken, "megabytes": [before, after]})


def stub(folder: Path, name: str) -> Job:
    """Return a job whose one command writes a file."""
    product = folder / name
    command = [sys.executable, "-I", "-S", "-c", STUB, str(product)]
    return Job(name, [(command, product)], folder / f"{name}.stderr", [folder / f"{name}.lock"])


if __name__ == "__main__":
    errors.run(main)

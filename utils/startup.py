"""Process-wide settings of the scripts: CPU threads and path, memory allocator, warnings of libraries."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import time
import warnings
import zlib  # noqa: F401  before paddle: PaddlePaddle 2.6 brings another one, which later imports would get
from collections.abc import Iterator

from utils import processor, streams

STARTED = time.perf_counter()  # of a script, which imports this first
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def configure() -> None:
    """Use all cores and their fast path, keep freed memory, and import paddle without its warnings.

    Call it before paddle is imported: `import paddle` sets OMP_NUM_THREADS to 1 unless it is set. Several processes on
    one machine (`paddle.distributed.launch`) share the cores. A notebook's own matplotlib backend, which it leaves in
    the environment, is not for processes outside of it, and every picture here is drawn into a file.
    """
    streams.protect()
    os.environ["MPLBACKEND"] = "agg"
    if "OMP_NUM_THREADS" not in os.environ:
        processes = int(os.environ.get("PADDLE_LOCAL_SIZE") or os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores // processes))
    processor.use_fast_path()
    _keep_freed_memory()
    _ignore_at_every_step()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle  # noqa: F401


@contextlib.contextmanager
def quiet_steps() -> Iterator[None]:
    """Leave out PaddlePaddle's warning at every step in the block, for a caller of Python who did not `configure`."""
    with warnings.catch_warnings():
        _ignore_at_every_step()
        yield


def _ignore_at_every_step() -> None:
    warnings.filterwarnings("ignore", message="When training, we now always track")


def _keep_freed_memory() -> None:
    """Stop glibc from returning large blocks to the kernel, which would clear them page by page for the next step.

    Every activation of every step is such a block; docs/performance.md has the cost.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # glibc
        mallopt(M_MMAP_MAX, 0)  # no block as a mapping of its own, which could only be given back
        mallopt(M_TRIM_THRESHOLD, -1)

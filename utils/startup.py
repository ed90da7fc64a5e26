"""Import this before paddle: it gives the CPU all cores, keeps freed memory, imports paddle without its chatter.

`import paddle` sets OMP_NUM_THREADS to 1 unless it is set before. Several processes on one machine
(`paddle.distributed.launch`) share the cores.

glibc hands every large block back to the kernel when it is freed and the kernel clears it page by page when it is asked
for again. Every activation of every step is such a block: docs/performance.md has what that costs.
"""

import contextlib
import ctypes
import io
import os
import warnings
import zlib  # noqa: F401  PaddlePaddle 2.6 brings one of its own, which a later import would be given

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def _share_cores() -> None:
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // processes))


def _keep_freed_memory() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:  # glibc
        mallopt(M_MMAP_MAX, 0)  # no block of its own mapping, which could only be given back
        mallopt(M_TRIM_THRESHOLD, -1)


if "OMP_NUM_THREADS" not in os.environ:
    _share_cores()
_keep_freed_memory()

warnings.filterwarnings("ignore", message="When training, we now always track")  # at every step
with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
    warnings.filterwarnings("ignore", message="No ccache found")
    import paddle  # noqa: F401

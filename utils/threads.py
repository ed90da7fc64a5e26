"""Import this before paddle: it gives the CPU all cores and imports paddle without its start-up chatter.

`import paddle` sets OMP_NUM_THREADS to 1 unless it is set before. Several processes on one machine
(`paddle.distributed.launch`) share the cores.
"""

import contextlib
import io
import os
import warnings
import zlib  # noqa: F401  PaddlePaddle 2.6 brings one of its own, which a later import would be given

if "OMP_NUM_THREADS" not in os.environ:
    processes = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // processes))

warnings.filterwarnings("ignore", message="When training, we now always track")  # at every step
with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
    warnings.filterwarnings("ignore", message="No ccache found")
    import paddle  # noqa: F401

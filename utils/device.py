"""Where a run computes: the one place that asks for a device."""

from __future__ import annotations

import os
import shutil
import sys

import paddle
from paddle import distributed

from utils.errors import DeviceError

DRIVER = "/proc/driver/nvidia"  # there on Linux when the driver is loaded; elsewhere nvidia-smi comes with it


def select(gpu: int) -> str:
    """Use GPU number `gpu`, or the CPU when it is -1 or when there is no usable GPU; return the device's name.

    Without a GPU one loud line says so, and what to do where the machine has one: nothing else changes. With several
    processes each uses the GPU that the launcher gave it.

    Raises:
        DeviceError: there are GPUs, but not that one.
    """
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if gpu < 0 or count == 0:
        if gpu >= 0:
            reason = "no GPU is visible" if paddle.is_compiled_with_cuda() else _built_for_the_cpu()
            threads = os.environ.get("OMP_NUM_THREADS", "1")
            warning = f"WARNING: --gpu {gpu}: {reason}; running on the CPU with {threads} threads, many times slower"
            print(warning, file=sys.stderr, flush=True)
        paddle.device.set_device("cpu")
        return "cpu"
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        gpu = distributed.ParallelEnv().device_id
    if gpu >= count:
        raise DeviceError(f"--gpu {gpu}: there are {count} GPUs, numbered from 0; -1 is the CPU")
    paddle.device.set_device(f"gpu:{gpu}")
    return f"gpu:{gpu} {paddle.device.cuda.get_device_name(gpu)}"


def _built_for_the_cpu() -> str:
    reason = "this PaddlePaddle is built for the CPU"
    if os.path.exists(DRIVER) or shutil.which("nvidia-smi"):
        reason += (
            ", though there is an NVIDIA driver; requirements-gpu.txt, in a new environment, has the build for GPUs"
        )
    return reason

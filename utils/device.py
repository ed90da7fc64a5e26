"""The device of a run."""

from __future__ import annotations

import os
import shutil

import paddle
from paddle import distributed

from utils.errors import DeviceError, warn

DRIVER = "/proc/driver/nvidia"  # exists on Linux when the driver is loaded; elsewhere the driver brings nvidia-smi


def select(gpu: int) -> str:
    """Use GPU number `gpu`, or the CPU if it is -1 or no GPU is usable; return the device's name.

    Falling back to the CPU is one line of warning. With several processes each uses the GPU that the launcher
    assigned to it.

    Raises:
        DeviceError: there are GPUs, but not that one.
    """
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if gpu < 0 or count == 0:
        if gpu >= 0:
            reason = "no GPU is visible" if paddle.is_compiled_with_cuda() else _built_for_the_cpu()
            threads = os.environ.get("OMP_NUM_THREADS", "1")
            warn(f"--gpu {gpu}: {reason}; running on the CPU with {threads} threads, many times slower")
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

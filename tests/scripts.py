"""Run the scripts as a person does: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *arguments, cwd, timeout: float = 300, **environment) -> subprocess.CompletedProcess:
    """Run `script` with `arguments` in the folder `cwd`; a hang fails the test."""
    return subprocess.run(
        command(script, *arguments),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def command(script: str, *arguments) -> list[str]:
    """Return the command line of `script`."""
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def tiny(*more) -> list[str]:
    """Return flags for a run of seconds: a ResNet-8 at 32 pixels, a few steps."""
    flags = "--model_arch resnet8 --image_size 32 --batch_size 8 --batch_size_eval 4 --max_iters 6 --gpu -1"
    return [*flags.split(), "--eval_frequency", "3", "--print_frequency", "2", *map(str, more)]

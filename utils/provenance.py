"""Provenance of a result: versions, machine, command, git state."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy
import paddle
import PIL

from utils.processor import machine
from utils.project import ROOT, VERSION


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
    }


def provenance(device: str) -> dict:
    """Return version and versions, machine, device, threads, command line and git state, for a run's summary."""
    return {
        "version": VERSION,
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": _git("describe", "--always", "--dirty"),
    }


def _git(*arguments: str) -> str | None:
    if not (ROOT / ".git").exists():  # a repository that this code lies in is another project's
        return None
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, encoding="utf-8", timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None

"""Run the scripts as a person does: in a process of their own, or for less than its two seconds, in this one."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

from utils import errors

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


def call(script: str, *arguments, cwd) -> subprocess.CompletedProcess:
    """Do in this process what `run` does in another one: exit code, output and errors are those of the script.

    For what depends on no state of the process: that a script ends a process so is for `run` to show.
    """
    main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
    words, out, err, before = [*map(str, arguments)], io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            errors.run(lambda: main(words))
    except SystemExit as end:
        return subprocess.CompletedProcess([script, *words], end.code or 0, out.getvalue(), err.getvalue())
    finally:
        os.chdir(before)


def forked(*arguments, cwd, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run reproduce.py as `run` does, but what it starts as forks of itself."""
    return subprocess.run(
        [sys.executable, "-m", "tests.forked", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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

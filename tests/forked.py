"""Call reproduce.py's main with every script it starts in a fork of this process: two seconds less for each.

python -m tests.forked ARGUMENTS

This process computes nothing itself, so a fork begins as a new process does.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

from utils import startup

startup.configure()

import matplotlib.backends.backend_agg  # noqa: F401  imported once, not in every fork
import matplotlib.figure  # noqa: F401
import visualdl  # noqa: F401

import reproduce
from reproduction import scheduler
from tests.interrupted import draw_nothing
from utils import errors


class Forked:
    """What the pool asks of a `Popen`; `command` names a script of this project by its path."""

    def __init__(self, command, stderr, **_):
        place = next(i for i, word in enumerate(command) if word.endswith(".py"))
        self._code, self._child = None, os.fork()
        if not self._child:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(stderr.fileno(), 2)
            os._exit(_ended(Path(command[place]).stem, command[place + 1 :]))

    def poll(self):
        """Return the exit code, minus the signal's number for one that was killed; None while it runs."""
        self._wait(os.WNOHANG)
        return self._code

    def wait(self):
        """Wait for the end."""
        self._wait(0)

    def send_signal(self, number):
        """Send a signal."""
        os.kill(self._child, number)

    def _wait(self, how):
        if self._code is None:
            child, status = os.waitpid(self._child, how)
            self._code = os.waitstatus_to_exitcode(status) if child else None


def _ended(script, words) -> int:
    try:
        errors.run(lambda: importlib.import_module(script).main(words))
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 1


class _Subprocess:
    DEVNULL, Popen = scheduler.subprocess.DEVNULL, Forked


if __name__ == "__main__":
    draw_nothing()
    scheduler.subprocess = _Subprocess
    errors.run(reproduce.main)

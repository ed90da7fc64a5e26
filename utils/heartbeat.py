"""Signs of life between machines: who waits for another process learns within a bounded time that it is gone.

On one machine the launcher ends all processes when one of them fails. The launchers of several machines do not hear of
each other, and a process that waits at a barrier exchanges nothing that could fail.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from paddle.base import core

from utils.errors import DeviceError

EVERY = 2.0  # seconds between two signs of life
LIMIT = 60.0  # seconds without one after which a process is taken for gone


class Heartbeat:
    """The signs of life of all processes of a run, which the store of rank 0 counts.

    Args:
        count: number of processes.
        add: adds a number to the entry of that name in the store and returns the sum.
    """

    def __init__(self, count: int, add: Callable[[str, int], int]) -> None:
        self._count, self._add = count, add
        self._seen: dict[int, tuple[int, float]] = {}  # by rank: the number of signs, and when the last one was new
        self._checked = time.monotonic()

    def check(self) -> None:
        """Look for new signs of life, now and then; the first look after a pause starts the limit anew.

        Raises:
            DeviceError: a process has given none for `LIMIT` seconds.
        """
        now = time.monotonic()
        if now - self._checked < EVERY:
            return
        if now - self._checked > 2 * EVERY:
            self._seen.clear()  # nobody has looked
        self._checked = now
        for rank in range(self._count):
            signs = self._add(_entry(rank), 0)
            before, since = self._seen.get(rank, (signs, now))
            self._seen[rank] = (signs, since if signs == before else now)
            if now - self._seen[rank][1] > LIMIT:
                raise DeviceError(
                    f"process {rank} of this run has given no sign of life for {LIMIT:.0f} seconds; its output is in "
                    "the log/workerlog.N of its machine"
                )


def start(rank: int, count: int) -> None:
    """Give signs of life from a thread of this process, over a connection of its own, until it ends."""
    host, port = os.environ["PADDLE_MASTER"].split(":")
    store = core.TCPStore(host, int(port), False, count, 900)

    def beat() -> None:
        try:
            while True:
                store.add(_entry(rank), 1)
                time.sleep(EVERY)
        except Exception:  # the store is gone, and rank 0 with it: the next exchange says so
            return

    threading.Thread(target=beat, daemon=True).start()


def _entry(rank: int) -> str:
    return f"alive/{rank}"

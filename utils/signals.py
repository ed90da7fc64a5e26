"""Stop between two steps, not within one."""

from __future__ import annotations

import signal


class Stop:
    """Remember SIGINT and SIGTERM until the step is over; a second SIGINT ends the process at once.

    Use as a context manager; `signal` is the number received, None as long as there is none.
    """

    def __init__(self):
        self.signal: int | None = None

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _frame):
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

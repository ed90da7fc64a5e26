"""Stop a run between two steps, not within one."""

from __future__ import annotations

import signal


class Stop:
    """Context manager that records SIGINT and SIGTERM; a second SIGINT raises KeyboardInterrupt.

    Attributes:
        signal: number of the last signal, None before the first.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

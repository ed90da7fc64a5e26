"""Stop a process by a signal: between two steps of a run, or at once where there is no run."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

# a closed terminal sends SIGHUP, or SIGBREAK on Windows, where Ctrl-Break and reproduce.py send it too
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal that ends the process, as Ctrl-C does: no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM or SIGHUP within the block; later ones are ignored while it ends.

    An ignored SIGHUP stays ignored, for `nohup` asks for that. Outside of the main thread nothing changes.
    """
    numbers = _heeded(ENDING)
    ended = False

    def end(number: int, _frame: object) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise Terminated(number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """Context manager that records SIGINT, SIGTERM and SIGHUP; a second SIGINT raises KeyboardInterrupt.

    An ignored SIGHUP stays ignored. Outside of the main thread, where Python hands out no signal, nothing is recorded.

    Args:
        undisturbed: whether system calls go on when a signal meets them. Python repeats its own; the exchanges of
            several processes, which are a library's, give up.

    Attributes:
        signal: number of the last signal, None before the first.
    """

    def __init__(self, undisturbed: bool = False) -> None:
        self.signal: int | None = None
        self._undisturbed = undisturbed

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in _heeded((signal.SIGINT, *ENDING))}
        if self._undisturbed and hasattr(signal, "siginterrupt"):  # Unix
            for number in self._before:
                signal.siginterrupt(number, False)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def _heeded(numbers: tuple[int, ...]) -> list[int]:
    if threading.current_thread() is not threading.main_thread():
        return []
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in numbers if number != hangup or signal.getsignal(number) != signal.SIG_IGN]

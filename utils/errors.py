"""What can go wrong on purpose: one class for each exit code, one line for each failure."""

from __future__ import annotations

import sys
from typing import Callable


class Failure(Exception):
    """A failure that a person can mend. The message is one line: the culprit, then what is accepted."""

    exit_code = 1
    label = "error"


class UsageError(Failure):
    """A flag, or a combination of flags, that means nothing."""

    exit_code = 2


class DataError(Failure):
    """A folder, image, list or archive that cannot be used as it is."""

    exit_code = 3


class WeightsError(Failure):
    """Weights or a checkpoint that are absent, damaged, refused or do not fit."""

    exit_code = 4


class DeviceError(Failure):
    """No such device, not enough memory, or a disk that cannot be written."""

    exit_code = 5


class Diverged(Failure):
    """A loss that is no longer a finite number."""

    exit_code = 6


class Interrupted(Failure):
    """A signal that ended the run after everything was saved."""

    label = "interrupted"

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def names(items, limit: int = 5) -> str:
    """List `items` for a message: all of them up to `limit`, then how many more there are."""
    items = list(items)
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def run(main: Callable[[], object]) -> None:
    """Call `main` and exit with the `exit_code` of its result, its result if that is an int, a failure's code or 0."""
    try:
        result = main()
        code = getattr(result, "exit_code", result if isinstance(result, int) else 0)
    except Failure as failure:
        code = _report(failure, failure.exit_code, failure.label)
    except KeyboardInterrupt:
        code = _report("at once; what was saved before is kept", 130, "interrupted")
    except MemoryError as failure:
        code = _report(f"out of memory: {failure}", DeviceError.exit_code)
    except OSError as failure:
        if failure.errno is None:  # raised by a library for reasons of its own
            raise
        code = _report(f"cannot use {failure.filename or 'a file'}: {failure.strerror}", DeviceError.exit_code)
    sys.exit(code)


def _report(message, code: int, label: str = "error") -> int:
    line = " ".join(str(message).split())
    print(f"{label}: {line}", file=sys.stderr, flush=True)
    return code

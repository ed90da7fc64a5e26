"""Expected failures: one class for each exit code, one line for each failure and each warning."""

from __future__ import annotations

import contextlib
import signal
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

from tqdm import tqdm

from utils import streams
from utils.signals import terminating


class Failure(Exception):
    """A failure that the user can fix. The message is one line: the culprit, then what is accepted."""

    exit_code = 1
    label = "error"


class UsageError(Failure):
    """An invalid flag or combination of flags."""

    exit_code = 2


class DataError(Failure):
    """A folder, image, list or archive that cannot be used."""

    exit_code = 3


class WeightsError(Failure):
    """Weights or a checkpoint that are missing, damaged, unsafe or do not fit."""

    exit_code = 4


class DeviceError(Failure):
    """A missing device, too little memory, or a disk that cannot be written."""

    exit_code = 5


class Diverged(Failure):
    """A loss or weight that is no longer finite."""

    exit_code = 6


class Interrupted(Failure):
    """A run that saved its state and stopped because of a signal."""

    label = "interrupted"

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def names(items: Iterable[object], limit: int = 5) -> str:
    """Return `items` as text for a message: the first `limit` of them, then how many more there are."""
    items = list(items)
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def distinguishable(items: Iterable[str]) -> list[str]:
    """Return `items` as text, those that look like another one with their unusual characters as escapes.

    Composed and decomposed letters look alike, as do blanks and characters that are not printed.
    """
    items, looks = list(items), defaultdict(set)
    for item in items:
        looks[_look(item)].add(item)
    return [ascii(item) if len(looks[_look(item)]) > 1 else item for item in items]


def _look(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKC", text) if letter.isprintable() and letter != " ")


def warn(text: str) -> None:
    """Print one line of warning on stderr, above the progress bar if there is one; a closed stream is ignored."""
    if sys.stderr is not None:  # None: the process was started without one
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(f"WARNING: {_one_line(text)}", file=sys.stderr)
            sys.stderr.flush()


def run(main: Callable[[], object]) -> None:
    """Call `main` and exit: with its result if that is an int, with the result's `exit_code` if it has one, else 0.

    A failure is printed as one line and exits with the failure's code, a SIGTERM or SIGHUP likewise; any other
    exception keeps its trace. Standard output that nobody reads any more is dropped; output that could not be written
    for another reason, as on a full disk, turns an exit code of 0 into 5 at the end.
    """
    streams.protect()
    with terminating():
        code = _outcome(main)
    lost = streams.failure()
    if lost is not None and code == 0:
        code = _report(f"standard output is incomplete: {lost.strerror}", DeviceError.exit_code)
    sys.exit(code)


def _outcome(main: Callable[[], object]) -> int:
    try:
        result = main()
        return result if isinstance(result, int) else getattr(result, "exit_code", 0)
    except Failure as failure:
        return _report(failure, failure.exit_code, failure.label)
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        return _report("at once; what was saved before is kept", 128 + number, "interrupted")
    except MemoryError as failure:
        return _report(f"out of memory: {failure}", DeviceError.exit_code)
    except OSError as failure:
        if failure.errno is None:  # not from the system: a library raised it
            raise
        return _report(f"cannot use {failure.filename or 'a file'}: {failure.strerror}", DeviceError.exit_code)


def _report(message: object, code: int, label: str = "error") -> int:
    if sys.stdout is not None:
        sys.stdout.flush()  # so that the line comes last
    print(f"{label}: {_one_line(message)}", file=sys.stderr, flush=True)
    return code


def _one_line(message: object) -> str:
    return " ".join(str(message).split())

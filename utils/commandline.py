"""The command-line parser of every script: dashed spellings, one-line errors, ranges of numbers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils import project
from utils.errors import UsageError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_switch = action.nargs == 0
        return action.help if is_switch or action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that accepts dashed spellings and reports an error as one line.

    A word with one dash at its start is a value, unless it is a flag of the parser. An empty word is an error: it is
    what an unset variable of a shell leaves. Beside `--help` there is `--version`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)
        self.prog = project.prog(self.prog)
        if self.add_help:
            shown = f"%(prog)s {project.VERSION}"
            self.add_argument("--version", action="version", version=shown, help="print the version and exit")

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        for before, word in zip(["", *words], words[:end]):
            flag, equals, value = word.partition("=")
            if not word:
                raise UsageError(f"{before if before.startswith('--') else 'an argument'}: the value is empty")
            if flag.startswith("--") and equals and value in ("", "--"):  # argparse makes an empty list of the latter
                raise UsageError(f"{flag}: the value is {value or 'empty'}")
        return super().parse_known_args([*map(_underscored, words[:end]), *words[end:]], namespace)

    def _parse_optional(self, arg_string: str) -> Any:
        if not arg_string.startswith("--") and arg_string not in self._option_string_actions:
            return None
        return super()._parse_optional(arg_string)


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


LARGEST = {int: 2**31 - 1, float: sys.float_info.max}  # counts fit into PaddlePaddle's int32


def number(
    kind: type, low: float | None = None, high: float | None = None, above: bool = False, below: bool = False
) -> Callable[[str], float]:
    """Return a converter of text to numbers of `kind` from `low` (`above`: excluding it) to `high` (`below`: likewise).

    Without `low` or `high` the limit is that of `LARGEST`, which a message names only where it is exceeded.
    """
    lowest, highest = -LARGEST[kind] if low is None else low, LARGEST[kind] if high is None else high

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (lowest < value or (value == lowest and not above)) or not value <= highest or (below and value == high):
            accepted = "a whole number" if kind is int else "a number"
            if low is not None or abs(value) > highest:
                accepted += f" {'above' if above else 'from'} {lowest}"
            if high is not None or abs(value) > highest:
                accepted += f" to {'below ' if below else ''}{highest}"
            raise argparse.ArgumentTypeError(f"{shortened(text)!r}: accepted is {accepted}")
        return value

    return convert


LARGEST_SEED = 2**32 - 1  # of NumPy's RandomState, which draws the subsets
SEED = number(int, 0, LARGEST_SEED)


def shortened(text: str, limit: int = 60) -> str:
    """Return `text` for a message, its end cut off where it is long."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def switch(text: str) -> bool:
    """Convert the text of a boolean option."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{shortened(text)!r}: accepted are true and false")
    return values[text.lower()]

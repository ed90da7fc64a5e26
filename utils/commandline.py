"""The command-line parser of every script: dashed spellings, one-line errors, ranges of numbers."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.errors import UsageError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_switch = action.nargs == 0
        return action.help if is_switch or action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that accepts dashed spellings and reports an error as one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([_underscored(word) for word in words], namespace)


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def number(kind: type, low: float, high: float = float("inf"), above: bool = False) -> Callable[[str], float]:
    """Return a converter of text to numbers of `kind` from `low` (`above`: excluding it) to `high`."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (low < value or (value == low and not above)) or not value <= high or math.isinf(value):
            accepted = f"{'above' if above else 'from'} {low:g}" + ("" if high == float("inf") else f" to {high:g}")
            raise argparse.ArgumentTypeError(
                f"{text!r}: accepted is {'a whole' if kind is int else 'a'} number {accepted}"
            )
        return value

    return convert


def switch(text: str) -> bool:
    """Convert the text of a boolean option."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted are true and false")
    return values[text.lower()]

"""Flags of a command line that are the fields of a dataclass and the arguments of a method."""

from __future__ import annotations

import argparse
import inspect
import typing
from dataclasses import Field, field
from typing import Any

from utils.commandline import number, shortened, switch
from utils.errors import UsageError
from utils.shares import is_share

SWITCH = object()  # a flag without a value


def flag(
    group: str,
    default: Any,
    accepts: Any,
    text: str,
    metavar: str | None = None,
    affects: bool = True,
    bare: Any = None,
) -> Any:
    """Return the field of one option.

    Args:
        group: its heading in the help.
        default: None where it depends on other options, as the help text then says.
        accepts: a converter from text, the accepted values, or `SWITCH`.
        text: its help.
        metavar: its value in the help.
        affects: whether it can change the result of a run; if not, it may differ when the run is resumed.
        bare: what the flag means without a value; None where it needs one.
    """
    metadata = {"group": group, "accepts": accepts, "help": text, "metavar": metavar, "affects": affects, "bare": bare}
    return field(default=default, metadata=metadata)


def add_field(parser: Any, option: Field, default: Any) -> None:
    """Give `parser` the flag of an option, whose help names `default` unless it is None."""
    about = option.metadata
    bare = about["bare"]
    shown = None if bare else default
    action = _add(parser, option.name, about["accepts"], about["metavar"], shown, about["help"])
    if bare:
        action.nargs, action.const = "?", bare


def add_argument(parser: Any, parameter: inspect.Parameter, hint: type, text: str) -> None:
    """Give `parser` the flag of an argument of a method, of type `hint`."""
    metavar = {bool: "BOOL", int: "N", float: "X"}.get(hint, "TEXT")
    literal = typing.get_origin(hint) is typing.Literal
    _add(parser, parameter.name, accepted(hint), None if literal else metavar, parameter.default, text)


def _add(parser: Any, name: str, accepts: Any, metavar: str | None, default: Any, text: str) -> argparse.Action:
    shown = text.replace("%", "%%")
    if accepts is SWITCH:
        return parser.add_argument(f"--{name}", action="store_true", help=shown)
    if default is not None:
        shown = f"{shown} (default: {default}{f' in {default.of} updates' if is_share(default) else ''})"
    kind = {"choices": accepts} if isinstance(accepts, (tuple, dict)) else {"type": accepts}
    return parser.add_argument(f"--{name}", **kind, metavar=metavar, help=shown)


def accepted(hint: type) -> Any:
    """Return what an argument of type `hint` accepts: the values of a `Literal`, or a converter from text."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return {bool: switch, int: number(int)}.get(hint, hint)


def converted(name: str, text: str, accepts: Any) -> Any:
    """Return the value of the flag `name` whose text is `text`, as the command line would.

    Raises:
        UsageError: naming the flag, its value and what is accepted.
    """
    if accepts is SWITCH:
        return True
    if not text:
        raise UsageError(f"argument --{name}: expected one argument")
    if isinstance(accepts, (tuple, dict)):
        if text not in accepts:
            choices = ", ".join(accepts)
            raise UsageError(f"argument --{name}: invalid choice: {shortened(text)!r} (choose from {choices})")
        return text
    try:
        return accepts(text)
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise UsageError(f"argument --{name}: {error}") from None

"""What hyper-parameters of methods are accepted: each check names the flag, its value and what it may be."""

from __future__ import annotations

import math
from collections.abc import Callable


def not_negative(**arguments: float) -> None:
    """Refuse what is not a finite number from 0 upwards."""
    _check("numbers from 0 upwards", lambda value: 0 <= value < math.inf, arguments)


def positive(**arguments: float) -> None:
    """Refuse what is not a finite number above 0."""
    _check("numbers above 0", lambda value: 0 < value < math.inf, arguments)


def distance(**arguments: float) -> None:
    """Refuse what is not a number from 0 upwards; infinity is one."""
    _check("numbers from 0 upwards and inf", lambda value: value >= 0, arguments)


def share(**arguments: float) -> None:
    """Refuse what is not a number from 0 to 1."""
    _check("numbers from 0 to 1", lambda value: 0 <= value <= 1, arguments)


def count(least: int = 1, **arguments: int) -> None:
    """Refuse what is not a whole number from `least` upwards."""
    _check(f"whole numbers from {least} upwards", lambda value: value >= least, arguments)


def one_of(choices: tuple[str, ...], **arguments: str) -> None:
    """Refuse what is not among `choices`."""
    _check(" and ".join(choices), lambda value: value in choices, arguments)


def _check(accepted: str, holds: Callable[..., bool], arguments: dict) -> None:
    for name, value in arguments.items():
        if not holds(value):
            raise ValueError(f"--{name} {value}: accepted are {accepted}")

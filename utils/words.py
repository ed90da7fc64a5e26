"""Quantities in words that people read and write."""

from __future__ import annotations

import argparse
import math
import re

_SECONDS = {"h": 3600, "m": 60, "s": 1}


def duration(seconds: float) -> str:
    """Return a duration as people say it: `0.31 s`, `45 s`, `3 min`, `2 h 10 min`, `3 days 4 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days {hours % 24} h"


def fold(text: str) -> str:
    """Check that `text` is I/K, a part from 1 to K of K of them, or 0/K."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, flags=re.ASCII)
    if not found or int(found[1]) > int(found[2]) or int(found[2]) < 2:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: accepted is I/K, as in 1/5: a part from 0 to K of 2 or more")
    return f"{int(found[1])}/{int(found[2])}"


def pattern(text: str) -> str:
    """Check that `text` is a regular expression with parentheses."""
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: not a regular expression: {error}") from None
    if not groups:
        accepted = "accepted is a regular expression with parentheses, as in ([^/]+)_[0-9]+[.]"
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: {accepted}")
    return text


def seconds(text: str) -> float:
    """Convert `10m`, `1h30m` or `45s` to seconds; at least one."""
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text.strip().lower(), flags=re.ASCII)
    total = sum(int(part or 0) * size for part, size in zip(found.groups(), _SECONDS.values())) if found else 0
    if not 1 <= total < math.inf:
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise argparse.ArgumentTypeError(f"{shown!r}: accepted is a time such as 10m, 1h30m or 45s")
    return float(total)


def printable(text: str) -> str:
    """Return `text` on one line, the bytes of a file name that are not UTF-8 as question marks."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())

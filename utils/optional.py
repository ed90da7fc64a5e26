"""Packages that a minimal installation lacks: found out before they are needed, said in one line."""

from __future__ import annotations

import importlib.util

from utils.errors import UsageError


def installed(package: str) -> bool:
    """Return whether `package` can be imported; it is not imported for that."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def absent(*packages: str) -> str:
    """Return which of `packages` are not installed and how they are, as the end of a message; "" if all are."""
    lacking = [package for package in packages if not installed(package)]
    verb = "is" if len(lacking) == 1 else "are"
    return f"{' and '.join(lacking)} {verb} not installed: pip install {' '.join(lacking)}" if lacking else ""


def need(package: str, purpose: str) -> None:
    """Refuse what cannot be done without `package`.

    Raises:
        UsageError: it is not installed; the message begins with `purpose`.
    """
    if not installed(package):
        raise UsageError(f"{purpose} needs {package}, which is not installed: pip install {package}")

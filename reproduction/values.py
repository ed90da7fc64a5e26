"""Validation of the values of a recipe: each function returns the value or raises a UsageError that names its place."""

from __future__ import annotations

import reprlib
from collections.abc import Collection

from utils.commandline import LARGEST_SEED, shortened
from utils.errors import UsageError, names

# flags of finetune.py that belong to a run, not to a recipe
RESERVED = ("name", "train_dir", "eval_dir", "save", "log_dir", "cache_dir", "gpu", "seed")
RESERVED += ("resume", "overwrite", "dry_run", "train_list", "eval_list", "data_root")
FOLDS = 2, 1000  # the fewest and the most that finetune.py accepts
HELD_OUT = {"val_split", "folds"}  # with one of them a run is scored on training images that it held out


def numbers(values: object, where: str, low: int = 0, high: int = LARGEST_SEED) -> list[int]:
    """Return a list of whole numbers from `low` to `high` without repetitions."""
    accepted = f"accepted are whole numbers from {low} to {high}"
    if not isinstance(values, list) or not values:
        raise UsageError(f"{where}: {shown(values)}: {accepted}")
    for value in values:
        digits = isinstance(value, str) and value.isdecimal() and len(value) <= 100
        if not digits or not low <= int(value) <= high:
            raise UsageError(f"{where}: {shown(value)}: {accepted}")
    return list(dict.fromkeys(map(int, values)))


def shown(value: object) -> str:
    """Return a short text for a value, in a time that does not depend on its size: nested aliases are huge."""
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict, short.maxstring = 1, 4, 2, 60
    return short.repr(value)


def boolean(value: object, where: str) -> bool:
    """Return true or false."""
    if value not in ("true", "false"):
        raise UsageError(f"{where}: {shown(value)}: accepted are true and false")
    return value == "true"


def text(value: object, where: str) -> str:
    """Return a single value."""
    if not isinstance(value, str):
        raise UsageError(f"{where}: {shown(value)}: expected one value")
    return value


def mapping(value: object, where: str, accepted: Collection[str] = ()) -> dict:
    """Return a mapping, empty if it is absent, with no keys but those `accepted`, if any are given."""
    value = {} if value in (None, "") else value
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {shown(value)}: expected a mapping")
    unknown = [key for key in value if accepted and key not in accepted]
    if unknown:
        raise UsageError(f"{where}: unknown {shortened(names(unknown))}; accepted are {', '.join(accepted)}")
    return value


def options(value: object, where: str) -> dict[str, str]:
    """Return options of `finetune.py`, flag to text; `finetune.py` validates them."""
    for flag, entry in mapping(value, where).items():
        if flag in RESERVED:
            raise UsageError(f"{where}: {flag} belongs to a run, reproduce.py sets it")
        text(entry, f"{where}: {flag}")
    return mapping(value, where)


def entries(value: object, where: str, accepted: Collection[str]) -> dict[str, dict]:
    """Return the entries of a section by name, with `title`, `options` and `per_dataset` filled in."""
    result = {}
    for key, entry in mapping(value, where).items():
        if not key.replace("-", "").replace("_", "").isalnum():
            raise UsageError(
                f"{where}: {shown(key)}: accepted in a name, which becomes a file's, are letters, digits, - and _"
            )
        entry = mapping(entry, f"{where}: {key}", accepted)
        entry = {"title": key, **entry, "options": options(entry.get("options"), f"{where}: {key}: options")}
        for name in set(entry) - {"options", "per_dataset", "trials"}:
            text(entry[name], f"{where}: {key}: {name}")
        overrides = mapping(entry.get("per_dataset"), f"{where}: {key}: per_dataset")
        entry["per_dataset"] = {name: options(flags, f"{where}: {key}: {name}") for name, flags in overrides.items()}
        result[key] = entry
    return result

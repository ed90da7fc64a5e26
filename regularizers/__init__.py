"""The methods by name, and the one way to make one from its name and its hyper-parameters."""

from __future__ import annotations

import inspect
import re
from typing import get_type_hints

from regularizers.base import Chain, Regularizer, Requirements, Setup
from regularizers.bss import BSS
from regularizers.cotuning import CoTuning
from regularizers.cutmix import CutMix
from regularizers.delta import DELTA
from regularizers.fe import FE
from regularizers.l2 import L2
from regularizers.l2sp import L2SP
from regularizers.mixup import Mixup
from regularizers.regsl import RegSL
from regularizers.rifle import RIFLE
from regularizers.smile import SMILE
from utils.errors import UsageError

REGULARIZERS: dict[str, type[Regularizer]] = {
    "l2": L2,
    "fe": FE,
    "mixup": Mixup,
    "cutmix": CutMix,
    "l2sp": L2SP,
    "delta": DELTA,
    "bss": BSS,
    "rifle": RIFLE,
    "cotuning": CoTuning,
    "regsl": RegSL,
    "smile": SMILE,
}


DEFAULT = "smile"


def split(name: str) -> list[str]:
    """Return the parts of `mixup+delta`.

    Raises:
        UsageError: a part is unknown or named twice.
    """
    parts = name.split("+")
    for part in parts:
        if part not in REGULARIZERS:
            raise UsageError(f"--regularizer {name}: no method {part!r}; there are {', '.join(sorted(REGULARIZERS))}")
    if len(set(parts)) != len(parts):
        raise UsageError(f"--regularizer {name}: a method is named twice")
    return parts


def arguments(name: str) -> dict[str, tuple[inspect.Parameter, type]]:
    """Return the hyper-parameters of `name` (also of a chain): each one's parameter and type, by name."""
    found = {}
    for part in split(name):
        constructor = REGULARIZERS[part].__init__
        own = [p for p in inspect.signature(constructor).parameters.values() if p.kind is p.KEYWORD_ONLY]
        hints = get_type_hints(constructor) if own else {}
        found.update({parameter.name: (parameter, hints[parameter.name]) for parameter in own})
    return found


def descriptions(name: str) -> dict[str, str]:
    """Return what the docstring of `name`'s class, or of those of a chain, says of each hyper-parameter."""
    found = {}
    for part in split(name):
        text = (inspect.getdoc(REGULARIZERS[part]) or "").partition("Args:\n")[2]
        entries = re.findall(r"^    (\w+(?:, \w+)*): (.+(?:\n {5,}.+)*)", text, flags=re.MULTILINE)
        found.update({key: " ".join(words.split()) for keys, words in entries for key in keys.split(", ")})
    return found


def create(name: str, **values) -> Regularizer:
    """Make the method `name`, or the chain `a+b`, with the hyper-parameters in `values`.

    Raises:
        UsageError: an unknown name, a value out of range, or parts with no meaning together.
    """
    parts = {}
    for part in split(name):
        own = {key: value for key, value in values.items() if key in arguments(part)}
        try:
            parts[part] = REGULARIZERS[part](**own)
        except ValueError as error:
            raise UsageError(f"--regularizer {part}: {error}") from None
    return parts[name] if name in parts else Chain(parts)


__all__ = [
    "DEFAULT",
    "REGULARIZERS",
    "Chain",
    "Regularizer",
    "Requirements",
    "Setup",
    "arguments",
    "create",
    "descriptions",
    "split",
]

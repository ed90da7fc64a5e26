"""The entries of a checkpoint: which values of each are accepted, checked before any of them is used."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Callable

import numpy as np

from datasets.preprocess import INTERPOLATIONS, ORIENTATIONS, Preprocess
from models import ARCHITECTURES
from utils.errors import WeightsError

Rules = dict[str, tuple[Callable[[object], bool], str]]
_LARGEST = 2**63  # of a number; what is printed or compared stays short
_MAX_SIDE = 2**15
POWERS = ("beta1_pow_acc_0", "beta2_pow_acc_0")  # what AdamW keeps for a whole parameter: its betas to the power t
_SCALER = {  # what paddle's GradScaler keeps beside its scale
    *("incr_ratio", "decr_ratio", "incr_every_n_steps", "decr_every_n_nan_or_inf"),
    *("incr_count", "decr_count", "use_dynamic_loss_scaling"),
}


def shown(value: object) -> str:
    """Return a short text for any value of a checkpoint."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    if type(value) is int and abs(value) >= _LARGEST:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)} items"
    text = repr(value)
    return f"{text[:60]}..." if len(text) > 60 else text


def label(name: str) -> str:
    """Return the name of an entry for a message: in ASCII, its first 60 characters."""
    return ascii(name[:60])[1:-1] + "..." * (len(name) > 60)


def _integer(low: int, high: int = _LARGEST) -> tuple[Callable[[object], bool], str]:
    limit = f" and below {high}" if high < _LARGEST else ""
    return lambda value: type(value) is int and low <= value < high, f"an integer of at least {low}{limit}"


def _number(value: object) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST


def _triple(value: object) -> bool:
    return type(value) in (list, tuple) and len(value) == 3 and all(map(_number, value))


def _plain(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(_plain(item) for item in value)
    return value is None or type(value) in (str, bool) or type(value) is float or _number(value)


def _options(value: object) -> bool:
    return type(value) is dict and all(type(name) is str and _plain(item) for name, item in value.items())


def _arrays(value: object) -> bool:
    named = type(value) is dict and all(type(name) is str for name in value)
    return named and all(isinstance(item, np.ndarray) for item in value.values())


def _classes(value: object) -> bool:
    return type(value) in (list, tuple) and all(type(name) is str for name in value) and len(set(value)) == len(value)


def _preprocess(value: object) -> bool:
    known = {field.name: field.default for field in fields(Preprocess)}
    if type(value) is not dict or not value.keys() <= known.keys() or None in value.values():
        return False
    whole = {**known, **value}
    return whole["image_size"] <= whole["resize_size"]


def _calibration(value: object) -> bool:
    if type(value) is not dict or value.keys() != {"temperature", "confidence", "correct"}:
        return False
    temperature, confidence, correct = value["temperature"], value["confidence"], value["correct"]
    arrays = isinstance(confidence, np.ndarray) and isinstance(correct, np.ndarray)
    if not _number(temperature) or not 1e-3 <= temperature <= 1e3 or not arrays:
        return False
    kinds = confidence.dtype == np.float32 and correct.dtype == bool
    if not kinds or confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        return False
    return bool((confidence >= 0).all() and (confidence <= 1).all() and (np.diff(confidence) >= 0).all())


def _scaler(value: object) -> bool:
    if type(value) is not dict or not value:
        return type(value) is dict
    rest = {name: item for name, item in value.items() if name != "scale"}
    numbers = all(_number(item) or type(item) is bool for item in rest.values())
    return numbers and rest.keys() == _SCALER and np.shape(value.get("scale")) == (1,)


def _pending(value: object) -> bool:
    return type(value) is list and all(
        type(row) is dict and {"loss", "hits"} <= row.keys() and all(_number(item) for item in row.values())
        for row in value
    )


_SECONDS = (lambda value: _number(value) and value >= 0, "a number of seconds")
_TEXT = (lambda value: type(value) is str, "a text")
_FINITE = (_number, "a finite number")

# may be absent or None, as in the reference's checkpoints
_NETWORK: Rules = {
    "arch": (lambda value: type(value) is str and value in ARCHITECTURES, ", ".join(ARCHITECTURES)),
    "classes": (_classes, "a list of distinct texts"),
    "preprocess.image_size": _integer(1, _MAX_SIDE),
    "preprocess.resize_size": _integer(1, _MAX_SIDE),
    "preprocess.keep_aspect": (lambda value: type(value) is bool, "True or False"),
    "preprocess.mean": (_triple, "three finite numbers"),
    "preprocess.std": (lambda value: _triple(value) and min(value) > 0, "three finite numbers above 0"),
    "preprocess.interpolation": (
        lambda value: type(value) is str and value in INTERPOLATIONS,
        ", ".join(INTERPOLATIONS),
    ),
    "preprocess.orientation": (
        lambda value: type(value) is str and value in ORIENTATIONS,
        ", ".join(ORIENTATIONS),
    ),
    "preprocess": (
        _preprocess,
        "image_size, resize_size (not smaller than image_size), keep_aspect, mean, std, interpolation and orientation",
    ),
    "options.batch_size_eval": _integer(1),
    "calibration": (
        _calibration,
        "a temperature from 0.001 to 1000, and of held-out images the confidence, ascending, and whether it is correct",
    ),
}
# may be absent or None
_RUN: Rules = {
    "source.sha256": _TEXT,
    "source.variant": _TEXT,
    "machine": (_options, "a dictionary of plain values by name"),
    "versions": (_options, "a dictionary of plain values by name"),
    "images.train": _TEXT,
    "images.evaluation": _TEXT,
    "options.samples_sha256": _TEXT,
    "ranks": _integer(1),
    "metrics.lost_seconds": _SECONDS,
    "options.max_iters": _integer(1),
}
# must be there
_METHOD: Rules = {
    "regularizer.name": _TEXT,
    "regularizer.state": (_arrays, "a dictionary of arrays by name"),
}
# likewise
_RESUMED: Rules = {
    **_METHOD,
    "model": (_arrays, "a dictionary of arrays by name"),
    "iter": _integer(0),
    "optimizer": (_arrays, "a dictionary of arrays by name"),
    "lr_scheduler.last_epoch": _integer(0),
    "lr_scheduler.last_lr": _FINITE,
    "scaler": (_scaler, "an empty dictionary or the state of a GradScaler"),
    "metrics.best.step": _integer(0),
    "metrics.best.acc": _FINITE,
    "metrics.seconds": _SECONDS,
    "metrics.pending": (_pending, "a list of rows of finite numbers, each with 'loss' and 'hits'"),
    "regularizer.arguments": (_options, "a dictionary of plain values by name"),
    "options": (_options, "a dictionary of plain values by name"),
}


def validate(content: dict, path: str | Path) -> None:
    """Check every entry that a network is built from.

    Raises:
        WeightsError: names the entry, what it is and what is accepted.
    """
    _check(content, path, _NETWORK)


def validate_method(content: dict, path: str | Path) -> None:
    """Check the entries of the method's state.

    Raises:
        WeightsError: names the entry, what it is and what is accepted.
    """
    _check(content, path, _METHOD, required=True)


def validate_run(content: dict, path: str | Path) -> None:
    """Check every entry that a run is resumed from.

    Raises:
        WeightsError: names the entry, what it is and what is accepted.
    """
    _check(content, path, {**_NETWORK, **_RUN})
    _check(content, path, _RESUMED, required=True)
    end = content["options"].get("max_iters")
    if end is not None:
        _check(content, path, {"iter": _integer(0, end)})
    weights = {**content["model"], **{f"regularizer.{k}": v for k, v in content["regularizer"]["state"].items()}}
    for name, slot in content["optimizer"].items():
        parameter, _, kind = name.partition("/")
        if parameter not in weights:  # the optimizer's to refuse
            continue
        shape = (1,) if kind in POWERS else weights[parameter].shape
        if slot.dtype != np.float32 or slot.shape != shape:
            _refuse(path, f"optimizer: {name}", slot, f"an array of float32 {list(shape)}")
        if not np.isfinite(slot).all():
            _refuse(path, f"optimizer: {name}", slot, "finite numbers")


def validate_best(content: dict, path: str | Path, metric: str) -> None:
    """Check the value of the metric that chose the best evaluation, if there was one.

    Raises:
        WeightsError: names the entry, what it is and what is accepted.
    """
    if content["metrics"]["best"]["step"] > 0:
        _check(content, path, {f"metrics.best.{metric}": _FINITE}, required=True)


def _check(content: dict, path: str | Path, rules: Rules, required: bool = False) -> None:
    for name, (is_valid, accepted) in rules.items():
        value, parents = content, name.split(".")
        for depth, key in enumerate(parents):
            if type(value) is not dict:
                _refuse(path, ".".join(parents[:depth]), value, f"a dictionary with {key}")
            value = value.get(key)
            if value is None:
                break
        if (required or value is not None) and not is_valid(value):
            _refuse(path, name, value, accepted)


def _refuse(path: str | Path, name: str, value: object, accepted: str) -> None:
    state = "is missing" if value is None else f"is {shown(value)}"
    raise WeightsError(f"{path}: not a usable checkpoint: the entry {name} {state}; accepted: {accepted}")

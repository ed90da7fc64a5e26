"""What is known of the training of a checkpoint: from the file itself, and from the files of its run beside it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from checkpoints import checkpoint
from checkpoints.classifier import WEIGHTS
from checkpoints.entries import shown
from evaluation.page import History
from training.table import read_rows
from utils.words import duration

_ENDINGS = ("_Last", "_Best")


def of(path: str | Path, weights: str = WEIGHTS[0]) -> History:
    """Return the history of the checkpoint `path`; what is not recorded is left out.

    The run's table and summary are those of the same name beside it. A summary that disagrees with the checkpoint
    about the seed or the training images is of another run, and is not used.

    Args:
        path: the file.
        weights: whose are scored, one of `checkpoints.classifier.WEIGHTS`.

    Raises:
        WeightsError: the file is not a checkpoint.
    """
    path = Path(path)
    content = checkpoint.read(path)
    checkpoint.validate(content, path)
    run = next((path.stem.removesuffix(ending) for ending in _ENDINGS if path.stem.endswith(ending)), None)
    options, done = _mapping(content.get("options")), content.get("iter")
    summary = _summary(path.with_name(f"{run}.json"), options) if run and options else {}
    return History(
        rows=read_rows(path.with_name(f"{run}.csv")) if run else [],
        step=done + 1 if type(done) is int else None,
        facts={"weights": weights, **_trained(content, options, path), **_made(summary)},
        options={str(name): _text(value) for name, value in options.items()},
    )


def _trained(content: dict[str, Any], options: dict[str, Any], path: Path) -> dict[str, str]:
    method, source = _mapping(content.get("regularizer")), _mapping(content.get("source"))
    steps = [content["iter"] + 1] if type(content.get("iter")) is int else []
    return {
        "method": _text(method.get("name")),
        "its hyper-parameters": _listed(method.get("arguments")),
        "network": _text(content.get("arch")),
        "started from": _text(source.get("origin") or options.get("pretrained")),
        "trained on": _text(options.get("train_list") or options.get("train_dir")),
        "updates": " of ".join(map(_text, [*steps, *filter(None, [options.get("max_iters")])])),
        "images an update": _text(options.get("batch_size")),
        "learning rate": _text(options.get("lr")),
        "seed": _text(options.get("seed")),
        "checkpoint written": time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime)),
        "versions": _listed(content.get("versions")),
        "machine": _listed(content.get("machine")),
    }


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(values: object) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in _mapping(values).items())


def _text(value: object) -> str:
    """Return a short text for any value of a checkpoint; "" for None."""
    if isinstance(value, (list, tuple)) and len(value) <= 20:
        return ", ".join(map(_text, value))
    return "" if value is None else value if isinstance(value, str) else shown(value)


def _summary(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        same = summary["options"]["seed"] == options.get("seed")
        return summary if same and summary["samples_sha256"] == options.get("samples_sha256") else {}
    except (OSError, ValueError, LookupError, TypeError):  # none, or not one of ours: the checkpoint says enough
        return {}


def _made(summary: dict[str, Any]) -> dict[str, str]:
    command, seconds = summary.get("command"), summary.get("seconds")
    return {
        "command": " ".join(map(str, command)) if isinstance(command, list) else "",
        "time": duration(seconds) if isinstance(seconds, (int, float)) else "",
        "device": _text(summary.get("device")),
        "code": _text(summary.get("git")),
    }

"""Decide whether a run may start, given its flags and the files that exist."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import checkpoint
from datasets.loader import Dataset
from datasets.preprocess import ORIENTATIONS
from evaluation.metrics import METRICS
from training.identity import EARLIER, Identity
from training.options import Options
from training.runlog import NullLog, RunLog
from utils.distributed import Ranks
from utils.errors import UsageError, names, warn
from utils.files import digest, same_file

_ENDINGS = (
    "_Best.pdparams",
    "_Last.pdparams",
    "_Probe.pdparams",
    "_samples.txt",
    ".txt",
    ".csv",
    ".json",
    ".png",
    ".yaml",
)


def require_state(options: Options) -> None:
    """Refuse `--resume` where there is neither an interrupted nor a finished run of this name.

    Raises:
        UsageError: naming the file that is absent and the runs that are there.
    """
    last = Path(options.save, f"{options.run}_Last.pdparams")
    if options.resume is not True or last.exists() or Path(options.save, f"{options.run}.json").exists():
        return
    others = sorted(path.name.removesuffix("_Last.pdparams") for path in last.parent.glob("*_Last.pdparams"))
    there = f"the runs there are {names(others)}" if others else f"no run is in {options.save}"
    raise UsageError(f"--resume: nothing to resume, there is no {last}; {there}; without --resume a new run starts")


def as_started(options: Options) -> Options:
    """Return the options with an `orientation`: of a run to resume the one that it was started with, unless given.

    Raises:
        WeightsError: the checkpoint to resume from is damaged.
    """
    if options.orientation is not None:
        return options
    last = Path(options.save, f"{options.run}_Last.pdparams")
    content = _valid_summary(Path(options.save, f"{options.run}.json"))
    if content is None and last.exists():
        content = checkpoint.read(last)
    if content is None:
        return options.oriented("exif")
    then = content.get("options")
    found = then.get("orientation") if isinstance(then, dict) else None
    known = isinstance(found, str) and found in ORIENTATIONS
    return options.oriented(found if known else EARLIER["orientation"])


def check_select(options: Options, evaluation: Dataset) -> None:
    """Refuse a metric to choose the best by that is not defined on the evaluation images.

    Raises:
        UsageError: naming the metric and what it needs.
    """
    all_right = np.eye(len(evaluation.class_names), dtype="float32")[evaluation.labels]
    if METRICS[options.select].compute(all_right, evaluation.labels) is None:
        root = evaluation.store.images.root
        raise UsageError(f"--select {options.select}: the evaluation images in {root} are of one class; it needs two")


def may_start(options: Options, log: RunLog | NullLog) -> None:
    """Refuse to start a run anew that is there already, and to train it from a file that it will replace.

    Raises:
        UsageError: there is a run of this name, and neither `--resume` nor `--overwrite`; or an input is one
            of its files.
    """
    finished, started = log.path(".json").exists(), log.path("_Last.pdparams").exists()
    kept = log.path("_Best.pdparams").exists()
    if (finished or started or kept) and not (options.resume or options.overwrite):
        state = "is finished" if finished else "was interrupted: --resume continues it" if started else "left its _Best"
        raise UsageError(f"the run {log.base} {state}; --overwrite starts it again, --name gives another name")
    if not (options.resume and (finished or started)):
        own = [log.path(ending) for ending in _ENDINGS]
        for flag in ("pretrained", "sample_list", "train_list", "eval_list"):
            path = getattr(options, flag)
            if path is not None and same_file(path, own):
                raise UsageError(f"--{flag} {path} is a file of this run, which replaces it; give another --name")


def read_summary(path: Path) -> dict | None:
    """Return the summary of a finished run, or None if it is missing; a damaged file also warns."""
    summary = _valid_summary(path)
    if summary is None and path.exists():
        warn(f"{path}: not the summary of a run; it is written again")
    return summary


def _valid_summary(path: Path) -> dict | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8-sig"))
        source, images = summary.get("source") or {}, summary.get("images") or {}
        texts = [source.get("sha256", ""), *images.values()]
        if isinstance(summary["options"]["method"], dict) and all(isinstance(text, str) for text in texts):
            return summary
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def is_finished(options: Options, train: Dataset, images: dict[str, str], log: RunLog | NullLog, ranks: Ranks) -> bool:
    """Return whether the run to resume has been finished, and print that it has.

    Raises:
        UsageError: it was finished with other options, images or weights; or its summary is
            damaged and nothing else left.
    """
    path = log.path(".json")
    summary = read_summary(path)
    if summary is None:
        if path.exists() and not log.path("_Last.pdparams").exists():
            raise UsageError(f"--resume {path}: damaged, and {log.path('_Last.pdparams')} is absent; see --overwrite")
        return False
    then = Identity.saved(summary["options"], summary["options"]["method"], summary.get("samples_sha256"), summary)
    source = {"sha256": _weights(options.pretrained, then), "variant": then.variant}  # the summary's: none is loaded
    now = Identity.of(options, train, images, source, then.ranks if options.elastic else ranks.count)
    now.require_same(then, path)
    print(f"{path}: the run is finished; --overwrite starts it again")
    return True


def require_agreement(ranks: Ranks, first: int, images: dict[str, str], source: dict[str, Any] | None) -> None:
    """Refuse to train where the processes, whose disks may be their own, did not find the same.

    Args:
        ranks: the processes.
        first: updates made before, by the saved state that was found.
        images: digests of the images.
        source: origin and digest of the pretrained weights.

    Raises:
        UsageError: on each of them, with what this one found.
    """
    weights = (source or {}).get("sha256")
    if not ranks.agree((first, sorted(images.items()), weights)):
        digests = ", ".join(f"{name} images {value[:8]}" for name, value in images.items())
        raise UsageError(
            f"the processes do not start from the same: this one has {first} updates behind it, {digests}, weights "
            f"{(weights or 'none')[:8]}; every machine needs the same images, weights and, to resume, --save"
        )


def _weights(pretrained: str, then: Identity) -> str | None:
    """Return the sha256 of weights that are a file; of the official ones, which do not change, that in `then`."""
    if pretrained == "none":
        return None
    if os.path.isfile(pretrained):
        return digest(pretrained)
    return then.weights if pretrained == then.options.get("pretrained") else pretrained

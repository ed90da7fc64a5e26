"""The state of a run on the disk: `_Last.pdparams`, from which it goes on to the same bits, and `_Best.pdparams`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle

from checkpoints import checkpoint
from datasets import splits
from training.build import Run
from training.identity import Identity
from utils.errors import Diverged, names, warn
from utils.processor import machine
from utils.provenance import versions


def save(run: Run, path: Path, done: int, when_whole: Callable[[Path], None]) -> None:
    """Write a checkpoint after `done` updates: the reference's keys first.

    All ranks hold the same and call this together; the first one writes. `when_whole` is called with `path` when the
    new file is written, before it takes the place of an old one.

    Raises:
        Diverged: a weight is not a finite number; the file that was there stays.
    """
    pending = run.meter.state()
    with run.watch.exclude():
        for name, tensor in run.optimizer.parameters.items():
            if not paddle.isfinite(tensor).all().item():
                raise Diverged(f"the weight {name} is not finite after step {done}; try a smaller --lr")
        if run.ranks.first:
            checkpoint.save(path, _content(run, done, pending), lambda: when_whole(path))
        run.ranks.barrier()


def _content(run: Run, done: int, pending: list[dict]) -> dict[str, Any]:
    options = {name: value for name, value in run.options.to_dict().items() if name != "method"}
    calibrated = run.calibration is not None and run.calibration[0] == done  # not that of an earlier network
    return {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "iter": done - 1,  # as in the reference: the last update, counted from 0
        "lr_scheduler": run.optimizer.schedule.state_dict(),
        "scaler": run.optimizer.precision.state_dict(),
        "format_version": checkpoint.FORMAT_VERSION,
        "arch": run.options.model_arch,
        "classes": run.train.class_names,
        "preprocess": run.train.store.preprocess.to_dict(),
        "regularizer": {
            "name": run.options.regularizer,
            "arguments": run.options.method,
            "state": run.regularizer.state_dict(),
        },
        "options": {**options, "samples_sha256": splits.listing(run.train)[1]},
        "metrics": {"best": run.best, "pending": pending, **run.watch.state()},
        "ranks": run.ranks.count,
        "source": run.source,
        "images": run.images,
        "versions": versions(),
        "machine": machine(),
        **({"calibration": run.calibration[1]} if calibrated else {}),
    }


def restore(run: Run, path: Path) -> int:
    """Set a run to the state in a checkpoint; return the number of updates behind it.

    Raises:
        WeightsError: the file is damaged or does not fit.
        UsageError: the run was started with other options, images, weights or preprocessing.
    """
    content = checkpoint.read(path)
    checkpoint.validate_run(content, path)
    _require_same(run, content, path)
    checkpoint.validate_best(content, path, run.options.select)
    _warn_of_other_bits(content, path)
    checkpoint.load_exactly(run.model, content["model"], path)
    checkpoint.load_exactly(run.regularizer, content["regularizer"]["state"], f"{path}: the method's state")
    run.optimizer.set_state_dict(content["optimizer"], content["lr_scheduler"])
    run.optimizer.precision.set_state_dict(content["scaler"])
    metrics = content["metrics"]
    best = metrics["best"]  # before the first evaluation without the value of another metric than the accuracy
    run.best = {"step": best["step"], **{k: float(best[k]) for k in ("acc", run.options.select) if k in best}}
    run.watch.resume(metrics["seconds"], metrics.get("lost_seconds") or 0.0)
    run.meter.resume(metrics["pending"])
    return content["iter"] + 1


def _require_same(run: Run, content: dict, path: Path) -> None:
    options, method = content["options"], content["regularizer"]["arguments"]
    then = Identity.saved(options, method, options.get("samples_sha256"), content)
    ranks = then.ranks if run.options.elastic else run.ranks.count
    Identity.of(run.options, run.train, run.images, run.source, ranks).require_same(then, path)
    if then.ranks != run.ranks.count and run.ranks.first:
        warn(f"--elastic: {then.ranks} processes are now {run.ranks.count}; the run goes on to other bits")


def _warn_of_other_bits(content: dict, path: Path) -> None:
    """Warn where a library or the CPU may round otherwise than before; what was not recorded is taken for equal."""
    libraries = {name: version for name, version in versions().items() if name != "python"}
    then = {**libraries, **(content.get("versions") or {}), **(content.get("machine") or {})}
    now = {**libraries, **(machine() if paddle.get_device() == "cpu" else {})}
    then.setdefault("processor", now.get("processor"))
    changed = [
        f"{name} was {then.get(name) or 'not set or not recorded'}, is {value or 'not set'}"
        for name, value in now.items()
        if then.get(name) != value
    ]
    if changed:
        warn(f"--resume {path}: {names(changed)}: the weights can differ in the last bits from an uninterrupted run's")

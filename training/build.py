"""Everything a run trains, built from its options, saved and restored as one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import paddle

import regularizers
from checkpoints import checkpoint
from checkpoints.pretrained import load_source
from datasets import splits
from datasets.cache import fingerprint
from datasets.loader import Dataset
from models import build
from models.heads import reset_head
from models.parameters import copy_backbone
from training.meter import Meter, Stopwatch
from training.optimizer import Optimizer
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import Diverged, UsageError, names
from utils.precision import Precision
from utils.provenance import versions
from utils.rng import generator, seed_layers

# options that may differ when a run is resumed: they cannot change its result
FREE = {
    *("gpu", "save", "log_dir", "cache", "cache_dir", "save_frequency"),
    *("resume", "overwrite", "dry_run", "check_data", "embedded"),
}


class Training:
    """The network, the method and the optimizer of a run.

    Args:
        options: of the command line.
        train: the training images, decoded.
        skipped: a line for each image that was left out because it cannot be read.
        ranks: the processes of the run.

    Raises:
        WeightsError: the pretrained weights are absent, damaged or do not fit.
    """

    def __init__(self, options, train: Dataset, skipped: list[str], ranks: Ranks = SINGLE_PROCESS):
        self.options, self.train, self.skipped, self.ranks = options, train, skipped, ranks
        seed_layers(options.seed)
        self.model = build(options.model_arch, len(train.class_names))
        reset_head(self.model.head, generator(options.seed, "head", 0), options.head_init)
        source = None if options.pretrained == "none" else load_source(options.pretrained, options.model_arch)
        if source:
            copy_backbone(source.network, self.model)
        self.source = (
            {"origin": source.origin, "sha256": source.sha256, "classes": source.num_classes} if source else None
        )
        self.model.train()
        self.precision = Precision(options.amp)
        self.regularizer = regularizers.create(options.regularizer, **options.method)
        self.regularizer.prepare(self._setup(source))
        self.optimizer = Optimizer(
            self.model,
            self.regularizer,
            lr=options.lr,
            wd=options.wd,
            cls_lambda=options.cls_lambda,
            head_lr_mult=options.head_lr_mult,
            lr_drop=options.lr_drop,
            precision=self.precision,
            ranks=ranks,
            accum=options.accum,
        )
        self.meter = Meter(ranks)
        self.best = {"step": 0, "acc": -1.0}
        self.watch = Stopwatch()

    def _setup(self, source) -> regularizers.Setup:
        options, store = self.options, self.train.store
        files = fingerprint(store.images.select(self.train.positions), store.preprocess)
        weights = source.sha256 if source else "none"
        return regularizers.Setup(
            model=self.model,
            source=source.network if source else None,
            train=self.train,
            total_steps=options.max_iters,
            batch_size=options.batch_size,
            seed=options.seed,
            head_init=options.head_init,
            cache_dir=Path(options.cache_dir) / "methods",
            precision=self.precision,
            ranks=self.ranks,
            accum=options.accum,
            fingerprint=hashlib.sha256(f"{weights} {files} {options.image_size}".encode()).hexdigest(),
        )

    def images_per_second(self, steps: int) -> float:
        """Return the training images seen in `steps` updates over the time they took, evaluations included."""
        return steps * self.options.batch_size / self.watch.seconds

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint after update number `step`, counted from 0: the reference's keys first.

        All ranks hold the same and call this together; the first one writes.

        Raises:
            Diverged: a weight is no longer a finite number; the file that was there stays.
        """
        pending = self.meter.state()
        with self.watch.exclude():
            self._finite(step)
            if self.ranks.first:
                checkpoint.save(path, self._content(step, pending))
            self.ranks.barrier()

    def _finite(self, step: int) -> None:
        for name, tensor in self.optimizer.parameters.items():
            if not paddle.isfinite(tensor).all().item():
                raise Diverged(f"the weight {name} is no finite number after step {step + 1}; try a smaller --lr")

    def _content(self, step: int, pending: list[dict]) -> dict:
        options = {name: value for name, value in vars(self.options).items() if name != "method"}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iter": step,
            "lr_scheduler": self.optimizer.schedule.state_dict(),
            "scaler": self.precision.state_dict(),
            "format_version": checkpoint.FORMAT_VERSION,
            "arch": self.options.model_arch,
            "classes": self.train.class_names,
            "preprocess": self.train.store.preprocess.to_dict(),
            "regularizer": {
                "name": self.options.regularizer,
                "arguments": self.options.method,
                "state": self.regularizer.state_dict(),
            },
            "options": {**options, "samples_sha256": splits.listing(self.train)[1]},
            "metrics": {"best": self.best, "pending": pending, **self.watch.state()},
            "ranks": self.ranks.count,
            "source": self.source,
            "versions": versions(),
        }

    def restore(self, path: Path) -> int:
        """Take everything back from a checkpoint; return the number of updates it has behind it.

        Raises:
            WeightsError: the file is damaged or does not fit.
            UsageError: the run was started with other options.
        """
        content = checkpoint.read(path)
        checkpoint.validate_run(content, path)
        self._same_options(content, path)
        checkpoint.load_exactly(self.model, content["model"], path)
        checkpoint.load_exactly(self.regularizer, content["regularizer"]["state"], f"{path}: the method's state")
        self.optimizer.set_state_dict(content["optimizer"], content["lr_scheduler"])
        self.precision.set_state_dict(content["scaler"])
        metrics = content["metrics"]
        self.best = {"step": metrics["best"]["step"], "acc": float(metrics["best"]["acc"])}
        self.watch.resume(metrics["seconds"], metrics.get("lost_seconds") or 0.0)
        self.meter.resume(metrics["pending"])
        return content["iter"] + 1

    def _same_options(self, content: dict, path: Path) -> None:
        now = {**vars(self.options), **self.options.method, "samples_sha256": splits.listing(self.train)[1]}
        then = {"accum": 1, **content["options"], **content["regularizer"]["arguments"]}
        changed = [
            f"--{name} {then.get(name)} is now {now.get(name)}"
            for name in sorted({*now, *then} - FREE - {"method"})
            if now.get(name) != then.get(name)
        ]
        if (content.get("source") or {}).get("sha256") != (self.source or {}).get("sha256"):
            changed.append(f"the weights of --pretrained {self.options.pretrained} are others now")
        ranks = content.get("ranks") or 1  # checkpoints of one process may be without
        if ranks != self.ranks.count:
            changed.append(f"{ranks} processes are now {self.ranks.count}")
        if changed:
            raise UsageError(f"--resume {path}: the run was started with other options: {names(changed)}")

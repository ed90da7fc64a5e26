"""What a run consists of: network, method, optimizer and measurements, built from its options."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

import regularizers
from checkpoints.pretrained import Source, read_weights
from datasets.augment import named
from datasets.batch import Batch
from datasets.loader import Dataset, training_batches
from datasets.preprocess import ORDINARY
from evaluation.scores import Scores, evaluate
from models import build as build_network
from models.heads import reset_head
from models.parameters import copy_backbone, freeze, freeze_statistics, set_momentum
from training.criterion import Criterion
from training.meter import Meter, Stopwatch
from training.optimizer import Optimizer
from training.options import Options
from training.schedule import Schedule
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.precision import Precision
from utils.rng import generator, seed_layers


@dataclass
class Run:
    """A run between two updates.

    Attributes:
        options: its options.
        train: the training images.
        skipped: a line for each image that was left out because it cannot be read.
        images: sha256 of the "train" and "evaluation" images, names and bytes.
        source: origin, sha256, number of classes and, if any, variant of the pretrained weights; None without.
        model: the network that is fine-tuned, in training mode.
        regularizer: the method, prepared.
        optimizer: of all that both train.
        criterion: what the targets ask of the logits.
        ranks: the processes of the run.
        meter: loss terms and training accuracy since the last report.
        watch: where the time goes.
        best: updates and accuracy of the best evaluation, and the metric that chose it.
        calibration: of the network after so many updates; None without `--calibrate`.
    """

    options: Options
    train: Dataset
    skipped: list[str]
    images: dict[str, str]
    source: dict[str, Any] | None
    model: nn.Layer
    regularizer: regularizers.Regularizer
    optimizer: Optimizer
    criterion: Criterion
    ranks: Ranks
    meter: Meter
    watch: Stopwatch = field(default_factory=Stopwatch)
    best: dict[str, Any] = field(default_factory=lambda: {"step": 0, "acc": -1.0})
    calibration: tuple[int, dict[str, Any]] | None = None

    def ends(self, done: int) -> bool:
        """Return whether the run is over after `done` updates.

        They are all that were asked for, or the last `--patience` evaluations were not better than the best one.
        """
        patience, period = self.options.patience, self.options.eval_frequency
        without_better = done // period - self.best["step"] // period
        return done == self.options.max_iters or (patience is not None and without_better >= patience)

    def teacher(self) -> nn.Layer | None:
        """Return the backbone of the method's average of the network under the network's present head.

        It is a network of its own, in eval mode; None if the method keeps no average.
        """
        if not self.regularizer.averaged:
            return None
        variant = (self.source or {}).get("variant", "")
        network = build_network(self.options.model_arch, len(self.train.class_names), variant)
        copy_backbone(dict(self.regularizer.named_sublayers())[self.regularizer.averaged], network)
        network.head.set_state_dict(self.model.head.state_dict())
        return freeze(network)

    def score_teacher(self, evaluation: Dataset) -> Scores | None:
        """Return the scores of `teacher` on `evaluation`, all ranks together; None if there is none."""
        network = self.teacher()
        if network is None:
            return None
        with self.watch.exclude():
            return evaluate(network, evaluation, self.options.batch_size_eval, ranks=self.ranks)

    def images_per_second(self, steps: int) -> float:
        """Return the training images seen in `steps` updates over the time they took, evaluations included."""
        return steps * self.options.batch_size / self.watch.seconds


def build(
    options: Options, train: Dataset, skipped: list[str], images: dict[str, str], ranks: Ranks = SINGLE_PROCESS
) -> Run:
    """Build a run at its beginning.

    Args:
        options: of the run.
        train: the training images, decoded.
        skipped: a line for each image that was left out because it cannot be read.
        images: sha256 of the "train" and "evaluation" images.
        ranks: the processes of the run.

    Raises:
        WeightsError: the pretrained weights are absent, damaged or do not fit.
    """
    seed_layers(options.seed)
    weights = None if options.pretrained == "none" else read_weights(options.pretrained, options.model_arch)
    model = build_network(options.model_arch, len(train.class_names), weights.variant if weights else "")
    reset_head(model.head, generator(options.seed, "head", 0), options.head_init)
    source = weights.network() if weights else None
    if source:
        copy_backbone(source.network, model)
    model.train()
    if options.bn_momentum is not None:
        set_momentum(model, options.bn_momentum)
    if options.freeze_bn:
        freeze_statistics(model)
    precision = Precision(options.amp)
    regularizer = regularizers.create(options.regularizer, **options.method)
    regularizer.prepare(_setup(options, train, ranks, precision, model, source))
    optimizer = Optimizer(
        model,
        regularizer,
        Schedule.of(options),
        wd=options.wd,
        cls_lambda=options.cls_lambda,
        head_lr_mult=options.head_lr_mult,
        kind=options.optimizer,
        layer_decay=options.layer_decay,
        clip_norm=options.clip_norm,
        precision=precision,
        ranks=ranks,
        accum=options.accum,
    )
    about = {"origin": source.origin, "sha256": source.sha256, "classes": source.num_classes} if source else None
    if source and source.variant:
        about["variant"] = source.variant
    criterion = Criterion.of(options, np.bincount(train.labels, minlength=len(train.class_names)))
    return Run(options, train, skipped, images, about, model, regularizer, optimizer, criterion, ranks, Meter(ranks))


def batches_of(options: Options, train: Dataset, ranks: Ranks, first: int = 0) -> Iterator[Batch]:
    """Yield the training batches of this rank for ever, from that of step `first` on."""
    shard, names = ranks.shard(options.batch_size), named(options.augment)
    return training_batches(train, options.batch_size, options.seed, first, shard, names, options.balance == "draws")


def _setup(
    options: Options, train: Dataset, ranks: Ranks, precision: Precision, model: nn.Layer, source: Source | None
) -> regularizers.Setup:
    files = train.store.fingerprint(train.positions.tolist())
    preprocess = train.store.preprocess
    weights = source.sha256 if source else "none"
    if source and source.variant:
        weights += f" {source.variant}"
    if (preprocess.mean, preprocess.std) != (ORDINARY.mean, ORDINARY.std):  # else the name of an older file stays
        weights += f" {preprocess.mean} {preprocess.std}"
    return regularizers.Setup(
        model=model,
        source=source.network if source else None,
        train=train,
        total_steps=options.max_iters,
        batch_size=options.batch_size,
        seed=options.seed,
        head_init=options.head_init,
        cache_dir=Path(options.cache_dir) / "methods",
        precision=precision,
        ranks=ranks,
        accum=options.accum,
        fingerprint=hashlib.sha256(f"{weights} {files} {options.image_size}".encode()).hexdigest(),
    )

"""A linear probe: a classifier of the frozen pretrained features, fitted to its minimum; a run can start from it.

    minimise mean CE(x W + b, y) + decay / 2 ||W||_F^2,   x = g(image) / s,   s^2 = mean ||g(image)||^2

g is the pretrained backbone on the clean training images. The decay is the one of `DECAYS` with the best accuracy by
folds, then with the lowest cross-entropy: the images that an accuracy counts were not fitted on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle

from checkpoints import checkpoint
from datasets.groups import parts
from datasets.subsets import folds
from evaluation.metrics import accuracy, cross_entropy
from evaluation.scores import eval_mode
from regularizers.linear import logistic_regression, of_clean_images
from training.build import Run
from training.options import ONLY, Options
from training.runlog import NullLog, RunLog
from utils.errors import UsageError
from utils.words import duration

START = "probe"  # the value of --head_init for which the head starts from it
FOLDS = 5
KEPT = -1  # the fold of an image that is never held out
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features.

    Attributes:
        weight: [D, K], of the features as they are.
        bias: [K].
        decay: the weight decay that was chosen.
        folds: by how many it was chosen.
        acc: accuracy in percent over the images, each scored by a fit that did not see it.
        count: the images that were scored.
        seconds: that all of it took.
    """

    weight: np.ndarray
    bias: np.ndarray
    decay: float
    folds: int
    acc: float
    count: int
    seconds: float = 0.0

    def __str__(self) -> str:
        error = 100 * np.sqrt(self.acc / 100 * (1 - self.acc / 100) / self.count)
        return (
            f"a linear probe of the pretrained features: {self.acc:.1f} % by {self.folds} folds of {self.count} "
            f"training images (standard error {error:.1f}), in {duration(self.seconds)}"
        )


def fit(features: np.ndarray, labels: np.ndarray, seed: int, groups: list[str] | None = None) -> Probe | None:
    """Fit a probe to `features` [N, D] and `labels` [N]; None where nothing can be held out.

    The only image of a class, or its only group of images, is in every fit and is not scored.
    """
    fold = _folds(labels, seed, groups)
    if fold is None:
        return None
    scale = np.sqrt(np.mean(np.sum(features**2, axis=1))) or 1.0
    # of D features and fewer images the minimum lies in the span of the images: exact, and far smaller
    u, values, axes = np.linalg.svd(features / scale, full_matrices=False)
    x, count = u * values, fold.max() + 1
    truth = labels[fold != KEPT]
    scored = {decay: _out_of_fold(x, labels, fold, decay) for decay in DECAYS}
    best = max(DECAYS, key=lambda decay: (accuracy(scored[decay], truth), -cross_entropy(scored[decay], truth)))
    weight, bias = logistic_regression(x, labels, best)
    return Probe((weight @ axes).T / scale, bias, best, int(count), accuracy(scored[best], truth), len(truth))


def _folds(labels: np.ndarray, seed: int, groups: list[str] | None) -> np.ndarray | None:
    """Return the fold of each image, `KEPT` in a class that has nothing to hold out; None where none has."""
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)  # what is held out together
    counts = np.array([len({*units[labels == label].tolist()}) for label in range(labels.max() + 1)])
    several = counts[labels] >= 2
    if not several.any() or np.isin(units[several], units[~several]).any():
        return None
    count, fold = int(min(FOLDS, counts[counts >= 2].min())), np.full(len(labels), KEPT)
    try:
        fold[several] = _even(labels[several], count, seed, None if groups is None else units[several].tolist())
    except UsageError:  # the groups are too unequal
        return None
    return fold


def _even(labels: np.ndarray, count: int, seed: int, groups: list[str] | None) -> np.ndarray:
    if groups is None:
        return folds(labels, count, seed)
    classes, labels = np.unique(labels, return_inverse=True)
    return parts(labels, groups, [1 / count] * count, seed, "--probe", range(len(classes)))


def _out_of_fold(x: np.ndarray, labels: np.ndarray, fold: np.ndarray, decay: float) -> np.ndarray:
    logits = np.empty((len(labels), labels.max() + 1))
    for each in range(fold.max() + 1):
        weight, bias = logistic_regression(x[fold != each], labels[fold != each], decay)
        logits[fold == each] = x[fold == each] @ weight.T + bias
    return logits[fold != KEPT]


def of_run(run: Run) -> Probe | None:
    """Fit a probe to the features of a run before its first update; None where nothing can be held out.

    The network is left as it is. Each rank computes all of it.
    """
    began = time.perf_counter()
    if not np.bincount(run.train.labels, minlength=len(run.train.class_names)).all():
        return None  # a class without an image
    with eval_mode(run.model), paddle.no_grad():
        features = of_clean_images(run.model, run.train, "features")
    probe = fit(features, run.train.labels, run.options.seed, run.train.groups)
    return probe and replace(probe, seconds=time.perf_counter() - began)


def asked_for(options: Options) -> bool:
    """Return whether a run begins with a probe."""
    return bool(options.probe) or options.head_init == START


def begin(run: Run, log: RunLog | NullLog, done: int) -> None:
    """Fit a probe to a run that has no updates behind it, `done`, if its options ask for one.

    Says what the probe reaches. With `--probe` it is written to `_Probe.pdparams`, with `--head_init probe` the head
    starts from it.
    """
    options = run.options
    if done and options.probe == ONLY:
        log.line(f"--probe only: {done} updates are behind this run; its probe is fitted before the first")
    if done or not asked_for(options):
        return
    probe = of_run(run)
    if probe is None:
        wanted = "one class with two images" if run.train.groups is None else "groups that can be held out"
        then = "; the head starts at zero" if options.head_init == START else ""
        log.line(f"no linear probe: it needs images of every class, and {wanted}{then}")
        return
    log.line(str(probe))
    if options.head_init == START:
        _start_from(probe, run)
    if options.probe and run.ranks.first:
        path = log.path("_Probe.pdparams")
        save(run, probe, path)
        log.line(f"{path}: the probe, for test.py and predict.py")


def _start_from(probe: Probe, run: Run) -> None:
    """Set the head to the probe of the first rank; other ranks may be other processors, which round otherwise."""
    run.ranks.barrier()  # some may need much longer for the fit
    for parameter, value in ((run.model.head.weight, probe.weight), (run.model.head.bias, probe.bias)):
        own = paddle.to_tensor(value.astype("float32") * run.ranks.first)
        parameter.set_value(run.ranks.all_reduce_sum(own))


def save(run: Run, probe: Probe, path: Path) -> None:
    """Write the pretrained backbone with the probe as its head, as a checkpoint to score and to use."""
    head = {f"{run.model.head_name}.weight": probe.weight, f"{run.model.head_name}.bias": probe.bias}
    tensors = {name: paddle.to_tensor(value.astype("float32")) for name, value in head.items()}
    checkpoint.save(
        path,
        {
            "model": {**run.model.state_dict(), **tensors},
            "format_version": checkpoint.FORMAT_VERSION,
            "arch": run.options.model_arch,
            "classes": run.train.class_names,
            "preprocess": run.train.store.preprocess.to_dict(),
            "options": {"batch_size_eval": run.options.batch_size_eval},
            "source": run.source,
        },
    )

"""Metrics: one function and one entry of `METRICS` each; log, table, summary, curves, recipes and test.py follow it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

BLOCK = 2**20  # logits that a metric computes on at a time
BINS = 15  # of confidence, equally wide, for the calibration error; as in arXiv 1706.04599


class Metric(NamedTuple):
    """A number that says how good a network is.

    Attributes:
        compute: from the logits, float [N, K], and the labels, int [N]; N is at least 1. None where it is not defined.
        title: its name in a line for a person.
        form: its format there; besides `value`, `count` (images) and `correct` (of them, by the top class) are known.
        higher_is_better: whether more of it is better.
        shown: whether it is in the line for a person and on VisualDL's board; tables and files hold every one.
    """

    compute: Callable[[np.ndarray, np.ndarray], float | None]
    title: str
    form: str = "{value:.4f}"
    higher_is_better: bool = True
    shown: bool = True


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of `logits` [N, K], of their type; scipy's softmax to the bit, without importing it."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def hits(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return whether each label is among the `k` highest logits, bool [N]; of equal ones the first class is higher."""

    def compute(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if k == 1:
            return logits.argmax(axis=1) == labels
        highest = (-logits).argsort(axis=1, kind="stable")[:, :k]
        return (highest == labels[:, None]).any(axis=1)

    return _in_blocks(compute, logits, labels)


def accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the top-`k` accuracy in percent."""
    return 100 * int(hits(logits, labels, k).sum()) / len(labels)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy over the images, which is the negative log-likelihood of an image."""
    from scipy.special import logsumexp  # slow to import: only where a network is scored

    def compute(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return logsumexp(logits.astype("float64"), axis=1) - logits[np.arange(len(labels)), labels]

    return float(_in_blocks(compute, logits, labels).mean())


def _in_blocks(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray], logits: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return `compute(logits, labels)`, a number for each image, without temporaries as large as all logits."""
    rows = max(1, BLOCK // logits.shape[1])
    return np.concatenate([compute(logits[i : i + rows], labels[i : i + rows]) for i in range(0, len(labels), rows)])


def class_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of the top-1 accuracies of the classes in percent; a class without images is left out.

    That is the balanced accuracy, and the macro average of the recalls.
    """
    images, correct = np.bincount(labels), np.bincount(labels, weights=hits(logits, labels, 1))
    return float(100 * (correct[images > 0] / images[images > 0]).mean())


def _counts(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each class its images, those predicted as it, and those of them that are, int [K] each."""
    predicted, width = logits.argmax(axis=1), logits.shape[1]
    return tuple(np.bincount(each, minlength=width) for each in (labels, predicted, labels[predicted == labels]))


def f1(logits: np.ndarray, labels: np.ndarray, weighted: bool = False) -> float:
    """Return the mean over the classes of the harmonic mean of precision and recall, in percent.

    A class without images is left out. With `weighted` each class counts by its images, else all alike.
    """
    images, predicted, correct = _counts(logits, labels)
    here = images > 0
    values = 2 * correct[here] / (images + predicted)[here]
    return float(100 * np.average(values, weights=images[here] if weighted else None))


def precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes of the share of the images predicted as one that are of it, in percent.

    It is 0 of a class that is never predicted; a class without images is left out.
    """
    images, predicted, correct = _counts(logits, labels)
    return float(100 * (correct / np.maximum(predicted, 1))[images > 0].mean())


def auc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the mean over the classes of the area under the curve of one against the rest, 0 to 1.

    That is the probability that an image of the class has a higher probability of it than another image has; equal
    ones count half. A class without images is left out. None where the images are of one class.
    """
    highest, sure, values = logits.max(axis=1).astype("float64"), confidences(logits), []
    for label in np.unique(labels):
        scores = np.exp(logits[:, label] - highest) * sure
        own, ordered = scores[labels == label], np.sort(scores)
        ranks = (np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right") + 1) / 2
        others = len(labels) - len(own)
        if not others:
            return None
        values.append((ranks.mean() - (len(own) + 1) / 2) / others)
    return float(np.mean(values))


def kappa(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return Cohen's kappa of labels and predictions: 1 for all right, 0 for what their frequencies alone give.

    None where all images are of one class and predicted as it.
    """
    images, predicted, correct = (each / len(labels) for each in _counts(logits, labels))
    chance = float(images @ predicted)
    return None if chance == 1 else float((correct.sum() - chance) / (1 - chance))


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the images of the squared distance of the probabilities from the label's, 0 to 2."""

    def compute(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        differences = softmax(logits.astype("float64"))
        differences[np.arange(len(labels)), labels] -= 1
        return np.einsum("ij,ij->i", differences, differences)

    return float(_in_blocks(compute, logits, labels).mean())


def confidences(logits: np.ndarray) -> np.ndarray:
    """Return the probability of the top class of each row of `logits` [N, K], float64 [N]."""

    def compute(logits: np.ndarray, _: np.ndarray) -> np.ndarray:
        wide = logits.astype("float64")
        return 1 / np.exp(wide - wide.max(axis=1, keepdims=True)).sum(axis=1)

    return _in_blocks(compute, logits, np.zeros(len(logits)))


def bin_of(sure: np.ndarray) -> np.ndarray:
    """Return which of `BINS` equally wide bins, each without its lower end, holds each of `sure` [N], int [N]."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], sure)


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error in percent.

        ECE = sum_b n_b / N |accuracy_b - confidence_b|

    over `BINS` equally wide bins of the probability of the top class, each without its lower end (arXiv 1706.04599).
    """
    sure = confidences(logits)
    gaps = np.bincount(bin_of(sure), weights=hits(logits, labels, 1) - sure)
    return float(100 * np.abs(gaps).sum() / len(labels))


METRICS = {
    "acc": Metric(accuracy, "top-1", "{value:.2f} % ({correct}/{count})"),
    "acc5": Metric(lambda logits, labels: accuracy(logits, labels, 5), "top-5", "{value:.2f} %"),
    "loss": Metric(cross_entropy, "loss", higher_is_better=False),
    "class_acc": Metric(class_accuracy, "mean per class", "{value:.2f} %"),
    "f1": Metric(f1, "macro F1", "{value:.2f} %", shown=False),
    "weighted_f1": Metric(partial(f1, weighted=True), "weighted F1", "{value:.2f} %", shown=False),
    "precision": Metric(precision, "macro precision", "{value:.2f} %", shown=False),
    "auc": Metric(auc, "AUC", shown=False),
    "kappa": Metric(kappa, "kappa", shown=False),
    "brier": Metric(brier, "Brier score", higher_is_better=False, shown=False),
    "ece": Metric(calibration_error, f"ECE ({BINS} bins)", "{value:.2f} %", higher_is_better=False, shown=False),
}


def is_better(name: str, value: float, than: float) -> bool:
    """Return whether a value of the metric `name` is better than another one."""
    return value > than if METRICS[name].higher_is_better else value < than


def columns() -> list[str]:
    """Return the columns of a run's table that hold metrics; `val_loss` is the first."""
    return [f"val_{name}" for name in dict.fromkeys(("loss", *METRICS))]


def table_cells(values: dict[str, float | None]) -> dict[str, float | None]:
    """Return the value of each metric by its column in a run's table."""
    return {f"val_{name}": value for name, value in values.items()}


def tag(name: str) -> str:
    """Return a metric's tag for VisualDL; `val_acc` and `val_loss` are the reference's."""
    return f"val_{name}" if name in ("acc", "loss") else f"val/{name}"


def tags() -> list[str]:
    """Return the tags of the metrics that VisualDL shows."""
    return [tag(name) for name, metric in METRICS.items() if metric.shown]


def curve_points(values: dict[str, float | None]) -> dict[str, float]:
    """Return the value of each metric that VisualDL shows, by its tag."""
    return {tag(name): value for name, value in values.items() if METRICS[name].shown}

"""Metrics: one function and one entry of `METRICS` each; log, table, summary, curves, recipes and test.py follow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 2**20  # logits that a metric computes on at a time


class Metric(NamedTuple):
    """A number that says how good a network is.

    Attributes:
        compute: from the logits, float [N, K], and the labels, int [N]; N is at least 1.
        title: its name in a line for a person.
        form: its format there; besides `value`, `count` (images) and `correct` (of them, by the top class) are known.
        higher_is_better: whether more of it is better.
    """

    compute: Callable[[np.ndarray, np.ndarray], float]
    title: str
    form: str = "{value:.4f}"
    higher_is_better: bool = True


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of `logits` [N, K], of their type; scipy's softmax to the bit, without importing it."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def hits(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return whether each label is among the `k` highest logits, bool [N]; of equal ones the first class is higher."""

    def compute(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        highest = (-logits).argsort(axis=1, kind="stable")[:, :k]
        return (highest == labels[:, None]).any(axis=1)

    return _in_blocks(compute, logits, labels)


def accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the top-`k` accuracy in percent."""
    return 100 * int(hits(logits, labels, k).sum()) / len(labels)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy over the images."""
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
    """Return the mean of the top-1 accuracies of the classes in percent; a class without images is left out."""
    images, correct = np.bincount(labels), np.bincount(labels, weights=hits(logits, labels, 1))
    return float(100 * (correct[images > 0] / images[images > 0]).mean())


METRICS = {
    "acc": Metric(accuracy, "top-1", "{value:.2f} % ({correct}/{count})"),
    "acc5": Metric(lambda logits, labels: accuracy(logits, labels, 5), "top-5", "{value:.2f} %"),
    "loss": Metric(cross_entropy, "loss", higher_is_better=False),
    "class_acc": Metric(class_accuracy, "mean per class", "{value:.2f} %"),
}


def columns() -> list[str]:
    """Return the columns of a run's table that hold metrics; `val_loss` is the first."""
    return [f"val_{name}" for name in dict.fromkeys(("loss", *METRICS))]


def table_cells(values: dict[str, float]) -> dict[str, float]:
    """Return the value of each metric by its column in a run's table."""
    return {f"val_{name}": value for name, value in values.items()}


def tag(name: str) -> str:
    """Return a metric's tag for VisualDL; `val_acc` and `val_loss` are the reference's."""
    return f"val_{name}" if name in ("acc", "loss") else f"val/{name}"


def curve_points(values: dict[str, float]) -> dict[str, float]:
    """Return the value of each metric by its tag for VisualDL."""
    return {tag(name): value for name, value in values.items()}

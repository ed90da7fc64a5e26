"""Score a network on an image set, every image once and all alike."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn
from scipy.special import logsumexp
from tqdm import tqdm

from datasets.loader import Dataset
from utils.distributed import SINGLE_PROCESS, Ranks


@dataclass(frozen=True)
class Scores:
    """What a network got right.

    Attributes:
        correct: images whose highest score is their class.
        correct5: images whose class is among the five highest scores.
        count: images scored.
        loss: mean cross-entropy over the images.
        class_acc: mean over the classes of the top-1 accuracy on each, in percent; a class without images is left out.
    """

    correct: int
    correct5: int
    count: int
    loss: float
    class_acc: float

    @property
    def acc1(self) -> float:
        """Top-1 accuracy in percent."""
        return 100 * self.correct / self.count

    @property
    def acc5(self) -> float:
        """Top-5 accuracy in percent."""
        return 100 * self.correct5 / self.count

    def to_dict(self) -> dict:
        """Return what a file of results keeps of it."""
        losses = {"loss": self.loss, "class_acc": self.class_acc}
        return {"count": self.count, "acc": self.acc1, "acc5": self.acc5, **losses}

    def __str__(self) -> str:
        return (
            f"top-1 {self.acc1:.2f} % ({self.correct}/{self.count})  top-5 {self.acc5:.2f} %  loss {self.loss:.4f}  "
            f"mean per class {self.class_acc:.2f} %"
        )


@contextlib.contextmanager
def eval_mode(network: nn.Layer):
    """Put every layer of `network` in eval mode, and give each its own mode back in the end."""
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@paddle.no_grad()
def predict(
    network: nn.Layer, images: Dataset, batch_size: int, title: str = "scoring", ranks: Ranks = SINGLE_PROCESS
) -> np.ndarray:
    """Return the logits of every image in order, float32 [N, K], on every rank: each computes a share of them."""
    share = -(-len(images) // ranks.count)
    own = range(len(images))[ranks.rank * share : (ranks.rank + 1) * share]
    rows = []
    with eval_mode(network), tqdm(total=len(own), desc=title, unit="image", disable=None, leave=False) as bar:
        for batch, index in images.batches(batch_size, slice(own.start, own.stop)):
            rows.append(network(batch).logits.astype("float32"))
            bar.update(len(index))
    if len(own) < share:  # the last share is short: filled up to be gathered, and cut off again
        rows.append(paddle.zeros([share - len(own), len(images.class_names)]))
    ranks.barrier()
    return ranks.gather(paddle.concat(rows))[: len(images)].numpy()


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the scores of `logits` [N, K] against `labels` [N]; of equal logits the first class counts as higher."""
    highest = (-logits).argsort(axis=1, kind="stable")[:, :5]
    hits = highest == labels[:, None]
    losses = logsumexp(logits.astype("float64"), axis=1) - logits[np.arange(len(labels)), labels]
    images, right = np.bincount(labels), np.bincount(labels, weights=hits[:, 0])
    return Scores(
        correct=int(hits[:, 0].sum()),
        correct5=int(hits.any(axis=1).sum()),
        count=len(labels),
        loss=float(losses.mean()),
        class_acc=float(100 * (right[images > 0] / images[images > 0]).mean()),
    )


def evaluate(
    network: nn.Layer, images: Dataset, batch_size: int, title: str = "scoring", ranks: Ranks = SINGLE_PROCESS
) -> Scores:
    """Score `network` in eval mode on all of `images`; its training modes are left as they were."""
    return score(predict(network, images, batch_size, title, ranks), images.labels)

"""Score a network on a set of images, each counted once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from datasets.loader import Dataset
from evaluation.metrics import METRICS
from utils.bars import progress_bar
from utils.distributed import SINGLE_PROCESS, Ranks


@dataclass(frozen=True)
class Scores:
    """The metrics of a network on some images.

    Attributes:
        count: images scored.
        values: each of `METRICS` by its name; None where it is not defined on these images.
    """

    count: int
    values: dict[str, float | None]

    @property
    def acc1(self) -> float:
        """Top-1 accuracy in percent."""
        return self.values["acc"]

    @property
    def correct(self) -> int:
        """Images whose highest logit is that of their class."""
        return round(self.acc1 * self.count / 100)

    def to_dict(self) -> dict[str, float | None]:
        """Return the number of images and each metric by its name in a file of results."""
        return {"count": self.count, **self.values}

    def __str__(self) -> str:
        known = {"count": self.count, "correct": self.correct}
        shown = ((METRICS[name], value) for name, value in self.values.items() if METRICS[name].shown)
        return "  ".join(f"{metric.title} {metric.form.format(value=value, **known)}" for metric, value in shown)


@contextlib.contextmanager
def eval_mode(network: nn.Layer) -> Iterator[None]:
    """Put every layer of `network` in eval mode; restore the mode of each at the end."""
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
    """Return the logits of every image in order, float32 [N, K], on every rank; each rank computes a share of them."""
    share = -(-len(images) // ranks.count)
    own = range(len(images))[ranks.rank * share : (ranks.rank + 1) * share]
    rows = []
    with eval_mode(network), progress_bar(total=len(own), desc=title, unit="image") as bar:
        for batch, index in images.batches(batch_size, slice(own.start, own.stop)):
            rows.append(network(batch).logits.astype("float32"))
            bar.update(len(index))
    if len(own) < share:  # the last share is shorter: pad it for the gather, then cut the padding off
        rows.append(paddle.zeros([share - len(own), len(images.class_names)]))
    ranks.barrier()
    return ranks.gather(paddle.concat(rows))[: len(images)].numpy()


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the scores of `logits` [N, K] against `labels` [N]."""
    return Scores(len(labels), {name: metric.compute(logits, labels) for name, metric in METRICS.items()})


def evaluate(
    network: nn.Layer, images: Dataset, batch_size: int, title: str = "scoring", ranks: Ranks = SINGLE_PROCESS
) -> Scores:
    """Score `network` in eval mode on all of `images`; the modes of its layers are restored."""
    return score(predict(network, images, batch_size, title, ranks), images.labels)

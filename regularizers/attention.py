"""DELTA's channel attention: how much worse the source classifies without each of its filters.

    d[j] = mean_b [CE(z without filter j, y) - CE(z, y)],   a = softmax((d - mean d) / std d / 5)

The filters are those of the last convolution of a stage. A filter of zeros gives the batch normalisation after it a
map of zeros, so without filter j channel j of what the block's last ReLU is applied to is identity_j + const_j, with
const_j the normalised zero, and nothing else there changes. For the last stage that moves one pooled feature:

    g'_j = mean_hw relu(identity_j + const_j),   z' = z + (g'_j - g_j) W[j, :]

All filters of a batch then cost one forward pass. For an earlier stage the network is run on from the altered map, once
for each filter. Only maps are altered, never a weight.

Differs from the official code: the classifier of the target classes is fitted on the features of the clean training
images in eval mode, to the minimum of the loss that is descended there for ten epochs in train mode, where the running
statistics drift; the images that are measured are clean too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from datasets.loader import Dataset
from models.stages import StageEnd, Taps
from regularizers.linear import BATCH, logistic_regression, of_clean_images
from utils.bars import progress_bar

HEAD_DECAY = 1e-4  # the official weight decay
ELEMENTS = 1 << 23  # of the largest array made at a time

Head = tuple[paddle.Tensor, paddle.Tensor]  # weight [C, K] and bias [K], float64
Measured = Callable[[int], object]  # called with the number of filters that were measured


def channel_attention(increases: np.ndarray) -> np.ndarray:
    """Return the weight of each channel, [C], summing to 1, from the increase of the loss without it, [C]."""
    if np.ptp(increases) == 0:
        return np.full(len(increases), 1 / len(increases))
    scores = (increases - increases.mean()) / increases.std() / 5
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


@paddle.no_grad()
def loss_increases(
    network: nn.Layer, train: Dataset, ends: list[StageEnd], count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return for each of `ends` how much the mean cross-entropy grows without each filter, float64 [C].

    Args:
        network: the source, in eval mode; it is not changed.
        train: the clean training images.
        ends: stage ends of `network`.
        count: how many images are measured, as far as there are so many.
        rng: chooses them.
    """
    _, labels = np.unique(train.labels, return_inverse=True)  # a class without images has no output
    head = fit_head(of_clean_images(network, train, "features"), labels)
    chosen = rng.permutation(len(labels))[:count]
    totals = [np.zeros(end.channels) for end in ends]
    filters = sum(end.channels for end in ends) * -(-len(chosen) // BATCH)
    with progress_bar(total=filters, desc="leaving out filters", unit="filter") as bar:
        for images, index in _some(train, chosen):
            for total, increase in zip(totals, batch_increases(network, images, labels[index], head, ends, bar.update)):
                total += increase
    return [total / len(chosen) for total in totals]


def _some(train: Dataset, chosen: np.ndarray) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
    """Yield the images `chosen` and their positions, a batch at a time, out of one pass over all."""
    images, index, last = [], [], max(chosen)
    for batch, positions in train.batches(BATCH):
        for row in np.flatnonzero(np.isin(positions, chosen)):
            images.append(batch[int(row)])
            index.append(positions[row])
            if len(index) == BATCH or index[-1] == last:
                yield paddle.stack(images), np.array(index)
                images, index = [], []


def fit_head(features: np.ndarray, labels: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Fit a linear classifier of `labels` [N], from 0 to K - 1, on `features` [N, C].

        minimise mean CE(features W + b, labels) + HEAD_DECAY / 2 ||W||_F^2

    Returns:
        W [C, K] and b [K], float64.
    """
    weight, bias = logistic_regression(features, labels, HEAD_DECAY)
    return paddle.to_tensor(weight.T), paddle.to_tensor(bias)


@paddle.no_grad()
def batch_increases(
    network: nn.Layer,
    images: paddle.Tensor,
    labels: np.ndarray,
    head: Head,
    ends: list[StageEnd],
    measured: Measured = lambda filters: None,
) -> list[np.ndarray]:
    """Return for each of `ends` how much the cross-entropy of `images` grows without each filter, summed over them.

    Args:
        network: in eval mode.
        images: [B, 3, H, W].
        labels: int64 [B].
        head: W [C, K] and b [K] of the classifier, float64.
        ends: stage ends of `network`.
        measured: called with the number of filters that were just measured.
    """
    targets = paddle.to_tensor(labels)
    with Taps([end.block for end in ends] + [end.conv for end in ends]) as taps:
        network(images)
    kept = taps.take()
    increases = []
    for end, (given, _), (_, convolved) in zip(ends, kept, kept[len(ends) :]):
        measure = _by_running_on if end.rest else _in_closed_form
        increases.append(measure(end, *end.before_relu(given, convolved), targets, head, measured))
    return increases


def _in_closed_form(
    end: StageEnd,
    pre_relu: paddle.Tensor,
    ablated: paddle.Tensor,
    targets: paddle.Tensor,
    head: Head,
    measured: Measured,
) -> np.ndarray:
    weight, bias = head
    features, without = (F.relu(maps).mean(axis=[2, 3]).astype("float64") for maps in (pre_relu, ablated))
    logits, change = features @ weight + bias, without - features
    before, size = paddle.logsumexp(logits, axis=1, keepdim=True), max(1, ELEMENTS // logits.size)
    increases = []
    for first in range(0, end.channels, size):
        part, rows = change[:, first : first + size], weight[first : first + size]
        after = paddle.logsumexp(logits.unsqueeze(1) + part.unsqueeze(2) * rows, axis=2)  # [B, filters]
        of_target = part * paddle.index_select(rows, targets, axis=1).t()
        increases.append((after - before - of_target).sum(axis=0).numpy())
    measured(end.channels)
    return np.concatenate(increases)


def _by_running_on(
    end: StageEnd,
    pre_relu: paddle.Tensor,
    ablated: paddle.Tensor,
    targets: paddle.Tensor,
    head: Head,
    measured: Measured,
) -> np.ndarray:
    count, size = len(targets), max(1, ELEMENTS // pre_relu.size)

    def losses(maps: paddle.Tensor) -> np.ndarray:
        for stage in end.rest:
            maps = stage(maps)
        logits = maps.mean(axis=[2, 3]).astype("float64") @ head[0] + head[1]
        of_target = paddle.take_along_axis(logits, targets.tile([len(logits) // count]).unsqueeze(1), axis=1).flatten()
        return (paddle.logsumexp(logits, axis=1) - of_target).reshape([-1, count]).sum(axis=1).numpy()

    increases, before = [], losses(F.relu(pre_relu))
    for first in range(0, end.channels, size):
        altered = range(first, min(first + size, end.channels))
        maps = pre_relu.unsqueeze(0).tile([len(altered), 1, 1, 1, 1])
        for i, channel in enumerate(altered):
            maps[i, :, channel] = ablated[:, channel]
        increases.append(losses(F.relu(maps.flatten(0, 1))) - before)
        measured(len(altered))
    return np.concatenate(increases)

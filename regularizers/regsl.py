"""RegSL: regularised self-labelling (Li and Zhang, NeurIPS 2021, arXiv 2111.04578).

No term keeps the network near its start; after every update each tensor of a stage is brought back into a ball, in the
Frobenius norm, around its pretrained value p0, and the head's weight into one around 0:

    p <- p0 + (p - p0) * min(1, D_i / ||p - p0||_F),   D_i = distance (layer1, layer2), distance * distance_growth
    (layer3), distance * distance_growth^2 (layer4)

Batch normalisation scales by q = gamma / sqrt(variance + 1e-6); each channel's q stays within D_i of the pretrained one
(the current running variance serves to find gamma from q). The stem, every bias and shift, and the momentum are free.

With `self_label`, for labels that are partly wrong, L starting as the labels, epochs from 1:

    from correct_epoch:   L[b] <- argmax softmax(z_b) where max softmax(z_b) > label_threshold, for good
    from reweight_epoch:  ce = sum_b w_b CE(z_b, L[b]),  w = softmax_b(-CE / temperature), without gradient
    temperature = reweight_temp * max(0.5, exp(-0.1 * max(0, epoch - 1 - reweight_epoch)))

Mixed images are weighed by their mixed loss, with the labels as they are by then, and correct none.

Differs from the official code: an epoch is the number of images divided by the batch size, not rounded up. The default
distances are the official ones for birds; they are for ResNet-101 and Adam at a rate of 1e-4, where weights move less
than with the optimizer of this project: choose them on held-out images (`--val_split`).
"""

from __future__ import annotations

import math
import re

import paddle
import paddle.nn.functional as F
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from models.parameters import batch_norms, trainable_parameters
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup
from regularizers.losses import cross_entropies

STAGE = re.compile(r"layer(\d+)\.")
EPSILON = 1e-6  # official; that of the batch normalisation itself is 1e-5


def shrink(lengths: paddle.Tensor, bounds: paddle.Tensor) -> paddle.Tensor:
    """Return min(1, bounds / lengths), 1 at a length of 0 unless the bound is 0 too."""
    return (bounds / lengths.clip(min=1e-30)).clip(max=1.0)


class RegSL(Regularizer):
    """Keep every layer within a distance of where it started, and correct labels where the network is sure.

    Args:
        distance: how far each tensor of layer1 and layer2 may go; inf leaves everything free.
        head_distance: the largest norm of the head's weight.
        distance_growth: by how much the distance grows from layer2 to layer3 and to layer4.
        self_label: whether labels are corrected and the images of a batch weighed.
        label_threshold: the probability above which the network's class replaces the label.
        correct_epoch: the first epoch that corrects labels, from 1.
        reweight_epoch: the first epoch that weighs the images.
        reweight_temp: how evenly they are weighed at first; 2 in the official documentation, 1 in its script.
    """

    def __init__(
        self,
        *,
        distance: float = 0.2044,
        head_distance: float = 23.785,
        distance_growth: float = 4.738,
        self_label: bool = False,
        label_threshold: float = 0.9,
        correct_epoch: int = 10,
        reweight_epoch: int = 5,
        reweight_temp: float = 2.0,
    ):
        super().__init__()
        validate.distance(distance=distance, head_distance=head_distance)
        validate.positive(distance_growth=distance_growth, reweight_temp=reweight_temp)
        validate.count(correct_epoch=correct_epoch, reweight_epoch=reweight_epoch)
        validate.share(label_threshold=label_threshold)
        self.distance, self.head_distance, self.distance_growth = distance, head_distance, distance_growth
        self.self_label, self.label_threshold = self_label, label_threshold
        self.correct_epoch, self.reweight_epoch, self.reweight_temp = correct_epoch, reweight_epoch, reweight_temp

    def requirements(self) -> Requirements:
        return Requirements(
            source=True,
            backbone="regularized",
            stages="the distances are those of its stages",
            whole_batch="self_label weighs the images against one another" if self.self_label else "",
            terms=("ce",) if self.self_label else (),
        )

    def prepare(self, setup: Setup) -> None:
        source = dict(setup.source.named_parameters())
        tensors = trainable_parameters(setup.model)
        bounds = {name: self._bound(STAGE.match(name)) for name in tensors if STAGE.match(name)}
        filters = [name for name in bounds if tensors[name].ndim > 1]
        # The source is frozen, so its own tensors serve; in a plain dictionary no checkpoint reaches them.
        self.start = {name: source[name] for name in filters}
        self.start[f"{setup.model.head_name}.weight"] = 0.0
        self.bounds = paddle.to_tensor([*(bounds[name] for name in filters), self.head_distance], dtype="float32")

        self.norms = [name for name in batch_norms(setup.source) if f"{name}.weight" in bounds]
        gammas, deviations = self._norms(source)
        self.ratios = gammas / deviations
        self.sizes = [source[f"{name}.weight"].shape[0] for name in self.norms]
        channel_bounds = [bounds[f"{name}.weight"] for name, size in zip(self.norms, self.sizes) for _ in range(size)]
        self.channel_bounds = paddle.to_tensor(channel_bounds, dtype="float32")

        self.batch_size, self.ranks = setup.batch_size, setup.ranks
        if self.self_label:
            self.register_buffer("labels", paddle.to_tensor(setup.train.labels))

    def _bound(self, stage: re.Match) -> float:
        return self.distance * self.distance_growth ** max(int(stage[1]) - 2, 0)

    def _norms(self, tensors: dict[str, paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        gammas = paddle.concat([tensors[f"{name}.weight"] for name in self.norms])
        variances = paddle.concat([tensors[f"{name}._variance"] for name in self.norms])
        return gammas, paddle.sqrt(variances + EPSILON)

    @paddle.no_grad()
    def after_step(self, model: nn.Layer, step: int) -> None:
        """Bring every layer back into its ball, without waiting for the device; what is inside stays bit for bit."""
        tensors = dict(model.named_parameters())
        gaps = [tensors[name] - start for name, start in self.start.items()]
        # not paddle.norm: its sum over millions of float32 is off by a thousandth on the CPU
        lengths = paddle.stack([paddle.square(gap).sum() for gap in gaps]).sqrt()
        excess = paddle.unbind(shrink(lengths, self.bounds) - 1)
        for name, gap, factor in zip(self.start, gaps, excess):
            tensors[name].add_(gap * factor)

        gammas, deviations = self._norms(tensors)
        gap = gammas / deviations - self.ratios
        change = gap * (shrink(gap.abs(), self.channel_bounds) - 1) * deviations
        for name, part in zip(self.norms, paddle.split(change, self.sizes)):
            tensors[f"{name}.weight"].add_(part)

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        if not self.self_label:
            return {}
        logits = outputs.logits.astype("float32")
        epoch = 1 + step * self.batch_size // len(self.labels)
        if batch.mix is None and epoch >= self.correct_epoch:
            self._correct(logits, batch.index)
        targets = F.one_hot(paddle.gather(self.labels, batch.index), logits.shape[1])
        if batch.mix is not None:
            targets = batch.mix.blend(targets)
        losses = cross_entropies(logits, targets)
        if epoch < self.reweight_epoch:
            return {"ce": losses.mean()}
        weights = F.softmax(-self.ranks.gather(losses) / self.temperature(epoch), axis=0)
        own = weights[self.ranks.shard(len(weights))]
        return {"ce": self.ranks.count * (own * losses).sum()}

    @paddle.no_grad()
    def _correct(self, logits: paddle.Tensor, index: paddle.Tensor) -> None:
        probabilities = F.softmax(logits, axis=1)
        sure = probabilities.max(axis=1) > self.label_threshold
        labels = paddle.where(sure, probabilities.argmax(axis=1), paddle.gather(self.labels, index))
        self.labels = paddle.scatter(self.labels, self.ranks.gather(index), self.ranks.gather(labels))

    def temperature(self, epoch: int) -> float:
        """Return the temperature in `epoch`, counted from 1."""
        return self.reweight_temp * max(0.5, math.exp(-0.1 * max(epoch - 1 - self.reweight_epoch, 0)))

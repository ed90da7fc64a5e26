"""DELTA: keep the feature maps of the source, each channel by its importance (Li et al., ICLR 2019, arXiv 1901.09229).

    loss = CE + delta_lambda * sum_l sum_{b,j} w_l[j] sum_{h,w} (S_l - T_l)[b, j, h, w]^2 / (h_l w_l)
              + delta_head_lambda / 2 * ||head||^2

S_l and T_l [B, C, h, w] are maps of the student and of the source, in eval mode, for the same images, mixed ones
included; a_l [C], the channel attention, sums to 1 (regularizers/attention.py). The sum is over the batch, not its
mean. The two forms differ so much in scale that their strengths are not comparable:

    smile     the last map, after its ReLU;  w = a
    official  what the last convolution of each stage returns, before its batch normalisation;  w = C a / 2

Differs from the official code: the default form is that of SMILE's authors in PyTorch, for whom delta_lambda is 0.01
for birds, 0.001 for cars and aircraft, and the optimizer's weight decay goes on. `official` has that code's terms;
its strengths are delta_lambda 0.01, delta_head_lambda 0.01, `--wd 0` and `--cls_lambda 0`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import paddle
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from models.stages import Taps, stage_ends
from regularizers import validate
from regularizers.attention import channel_attention, loss_increases
from regularizers.base import Regularizer, Requirements, Setup
from regularizers.teacher import Frozen
from utils.files import cached_array
from utils.rng import generator


def distance(student: paddle.Tensor, source: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
    """Return sum_{b,j} weights[j] mean_{h,w} (student - source)[b, j, h, w]^2, a float32 scalar.

    Args:
        student: [B, C, h, w]; the gradient flows into it.
        source: [B, C, h, w].
        weights: [C].
    """
    difference = student.astype("float32") - source.astype("float32")
    return (weights * paddle.square(difference).mean(axis=[2, 3])).sum()


class DELTA(Regularizer):
    """Keep the maps that the pretrained network makes of the images.

    Args:
        delta_lambda: weight of the distance between the maps.
        delta_form: "smile" for the last map, the form of SMILE's authors; "official" for one map of each stage.
        delta_head_lambda: weight of the head's own decay, weight and bias.
        attention: "computed" measures every channel's importance once, before the first step: about one pass over the
            training images, and with "official" also thousands of passes over those that are measured, hours on a CPU;
            "uniform" weighs all channels alike.
        attention_batches: how many times `batch_size` training images are measured.
    """

    def __init__(
        self,
        *,
        delta_lambda: float = 0.01,
        delta_form: Literal["smile", "official"] = "smile",
        delta_head_lambda: float = 0.0,
        attention: Literal["computed", "uniform"] = "computed",
        attention_batches: int = 4,
    ):
        super().__init__()
        validate.not_negative(delta_lambda=delta_lambda, delta_head_lambda=delta_head_lambda)
        validate.one_of(("smile", "official"), delta_form=delta_form)
        validate.one_of(("computed", "uniform"), attention=attention)
        validate.count(attention_batches=attention_batches)
        self.delta_lambda, self.delta_form, self.delta_head_lambda = delta_lambda, delta_form, delta_head_lambda
        self.attention, self.attention_batches = attention, attention_batches

    def requirements(self) -> Requirements:
        by_stage = self.delta_form == "official" or self.attention == "computed"
        stages = "any other network needs --delta_form smile and --attention uniform" if by_stage else ""
        return Requirements(source=True, backbone="regularized", stages=stages, terms=("delta", "delta_head"))

    def prepare(self, setup: Setup) -> None:
        self.source = Frozen(setup.source, setup.precision)
        self.strength = self.delta_lambda * setup.micro_batches  # whose sums are averaged
        if self.delta_form == "official":
            self.taps = Taps([end.conv for end in stage_ends(setup.model)])
            self.source_convs = [end.conv for end in stage_ends(setup.source)]
            channels = [conv.weight.shape[0] for conv in self.source_convs]
        else:
            channels = [setup.source(paddle.zeros([1, 3, 32, 32])).maps[-1].shape[1]]
        if self.attention == "uniform":
            weights = [np.full(count, 1 / count) for count in channels]
        else:
            weights = [channel_attention(increases) for increases in self._increases(setup, channels)]
        if self.delta_form == "official":
            weights = [count * weight / 2 for count, weight in zip(channels, weights)]
        for i, weight in enumerate(weights):
            self.register_buffer(f"weights{i}", paddle.to_tensor(weight.astype("float32")))

    @property
    def weights(self) -> list[paddle.Tensor]:
        """The weights of the channels of each map that is compared, [C] each."""
        return list(self._buffers.values())

    def _increases(self, setup: Setup, channels: list[int]) -> list[np.ndarray]:
        ends, count = stage_ends(setup.source)[-len(channels) :], self.attention_batches * setup.batch_size

        def compute() -> np.ndarray:
            rng = generator(setup.seed, "attention")
            return np.concatenate(loss_increases(setup.source, setup.train, ends, count, rng))

        # attention-*.npy are of a classifier that was not at its minimum
        name = f"attention2-{setup.fingerprint}-{self.delta_form}-{setup.seed}-{count}.npy"
        increases = cached_array(setup.cache_dir / name, (sum(channels),), compute)
        return np.split(increases, np.cumsum(channels)[:-1])

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        if self.delta_form == "official":
            student = [returned for _, returned in self.taps.take()]
            with Taps(self.source_convs) as taps:
                self.source(batch.images)
            source = [returned for _, returned in taps.take()]
        else:
            student, source = [outputs.maps[-1]], [self.source(batch.images).maps[-1]]
        distances = [distance(*maps) for maps in zip(student, source, self.weights)]
        terms = {"delta": self.strength * paddle.add_n(distances)}
        if self.delta_head_lambda:
            squares = [paddle.square(tensor).sum() for tensor in model.head.parameters()]
            terms["delta_head"] = self.delta_head_lambda / 2 * paddle.add_n(squares)
        return terms

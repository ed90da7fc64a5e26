"""The interface between the training loop and a method: `Regularizer`, its `Requirements`, its `Setup`, and `Chain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import paddle
from paddle import nn

from datasets.batch import Batch
from datasets.loader import Dataset
from models.outputs import Outputs
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UsageError
from utils.precision import Precision, float32


@dataclass(frozen=True)
class Requirements:
    """What a method needs from a run, and what it does that another method might do too.

    A text is a reason: it completes a message, and empty means that there is no such requirement.

    Attributes:
        source: whether it needs a pretrained network.
        stages: why it works on the residual stages of a ResNet only.
        whole_batch: why its terms cannot be computed on a micro-batch, for which `--accum` is refused.
        steps: the fewest updates of a run, and the reason.
        mixes: whether `transform` blends images with one another.
        backbone: "regularized" when it acts on the backbone, "frozen" when it freezes it, "" when it does neither.
        alone: why it cannot be combined with any other method.
        terms: the names that `loss` may return.
    """

    source: bool = False
    stages: str = ""
    whole_batch: str = ""
    steps: tuple[int, str] = (1, "")
    mixes: bool = False
    backbone: str = ""
    alone: str = ""
    terms: tuple[str, ...] = ()

    def conflict(self, other: Requirements) -> str:
        """Return why two methods cannot be combined, an empty text when they can."""
        if self.alone or other.alone:
            return self.alone or other.alone
        if {self.backbone, other.backbone} == {"frozen", "regularized"}:
            return "one freezes the backbone that the other acts on"
        if self.mixes and other.mixes:
            return "both mix the images"
        shared = sorted({*self.terms} & {*other.terms})
        return f"both name the term {shared[0]}" if shared else ""

    def united(self, other: Requirements) -> Requirements:
        """Return the requirements of two methods together."""
        return Requirements(
            source=self.source or other.source,
            stages="; ".join(filter(None, (self.stages, other.stages))),
            whole_batch="; ".join(filter(None, (self.whole_batch, other.whole_batch))),
            steps=max(self.steps, other.steps),
            mixes=self.mixes or other.mixes,
            backbone=self.backbone or other.backbone,
            terms=self.terms + other.terms,
        )


@dataclass(frozen=True)
class Setup:
    """What a method may look at before the first step.

    Attributes:
        model: the student, already holding the pretrained backbone.
        source: the frozen pretrained network with its own head, in eval mode; None when there is none.
        train: the training images, read without augmentation.
        total_steps: the updates of the run.
        batch_size: images in one update, over all ranks.
        seed: the seed of the run.
        head_init: how a head is initialised, one of `models.heads.INITS`.
        cache_dir: where results that are worth keeping go, under a name made from `fingerprint`.
        fingerprint: a hexadecimal digest of the source weights, the training files and their preprocessing.
        precision: how the networks compute.
        ranks: the processes of the run, each of which sees its shard of a batch.
        accum: into how many micro-batches each of them divides its shard.
    """

    model: nn.Layer
    source: nn.Layer | None
    train: Dataset
    total_steps: int
    batch_size: int
    seed: int
    head_init: str
    cache_dir: Path
    fingerprint: str
    precision: Precision = float32
    ranks: Ranks = SINGLE_PROCESS
    accum: int = 1

    @property
    def micro_batches(self) -> int:
        """Into how many micro-batches a batch is divided, over all ranks.

        `loss` sees one micro-batch and gradients are averaged over them: a term that is a mean over the images needs
        no correction, a sum over the images is multiplied by this number.
        """
        return self.ranks.count * self.accum


class Regularizer(nn.Layer):
    """One fine-tuning method. Every default does nothing: that is plain fine-tuning.

    A method is a layer: what it trains is a parameter, what it remembers a buffer or a frozen sublayer, so
    `parameters()` goes to the optimizer and `state_dict()` to the checkpoint. The student is passed in, never stored.
    Its hyper-parameters are the keyword-only arguments of its constructor; the command line is made from them.

    Attributes:
        averaged: the name, among the sublayers, of a network whose backbone is an average of the student's, which can
            be scored in its place; "" where there is none.
    """

    averaged: str = ""

    def requirements(self) -> Requirements:
        """Return what the method needs from a run, with these hyper-parameters."""
        return Requirements()

    def prepare(self, setup: Setup) -> None:
        """Build, once, what needs the networks or the data."""

    def transform(self, batch: Batch, step: int) -> Batch:
        """Return the batch that the student sees at `step`."""
        return batch

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        """Return the method's terms: scalars by name, already weighted, to be added to the cross-entropy.

        A term named "ce" replaces the cross-entropy. Neither `model` nor a frozen network is changed here.
        """
        return {}

    def after_step(self, model: nn.Layer, step: int) -> None:
        """Change what has to change after the optimizer's update number `step`."""


class Chain(Regularizer):
    """Several methods as one: transforms in order, terms united.

    Args:
        parts: the methods by name, in order.

    Raises:
        UsageError: two methods cannot be combined.
    """

    def __init__(self, parts: dict[str, Regularizer]):
        super().__init__()
        self.parts = nn.LayerDict(parts)
        self._requirements = Requirements()
        names: list[str] = []
        for name, part in parts.items():
            for earlier in names:
                reason = parts[earlier].requirements().conflict(part.requirements())
                if reason:
                    raise UsageError(f"--regularizer {'+'.join(parts)}: {earlier} and {name} cannot be one: {reason}")
            names.append(name)
            self._requirements = self._requirements.united(part.requirements())
        self.averaged = next((f"parts.{name}.{part.averaged}" for name, part in parts.items() if part.averaged), "")

    def requirements(self) -> Requirements:
        return self._requirements

    def prepare(self, setup: Setup) -> None:
        for part in self.parts.values():
            part.prepare(setup)

    def transform(self, batch: Batch, step: int) -> Batch:
        for part in self.parts.values():
            batch = part.transform(batch, step)
        return batch

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        terms = [part.loss(model, batch, outputs, step) for part in self.parts.values()]
        return {name: value for each in terms for name, value in each.items()}

    def after_step(self, model: nn.Layer, step: int) -> None:
        for part in self.parts.values():
            part.after_step(model, step)

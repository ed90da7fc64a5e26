"""The seam between the training loop and a method: `Regularizer`, what it is given (`Setup`), and `Chain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import paddle
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UsageError
from utils.precision import Precision, float32


class CleanImages(Protocol):
    """The training images without augmentation, in the order of their index."""

    labels: np.ndarray  # int64 [N]
    class_names: list[str]

    def batches(self, batch_size: int):
        """Yield `(images, index)`: normalised float32 [B, 3, H, W], the centre crop, and int64 [B]."""


@dataclass(frozen=True)
class Setup:
    """What a method may look at before the first step.

    Attributes:
        model: the student, already holding the pretrained backbone.
        source: the frozen pretrained network with its own head, in eval mode; None when there is none.
        train: the training images, clean.
        total_steps: how many updates the run makes.
        batch_size: images in one update, over all ranks.
        seed: the seed of the run.
        head_init: how a head starts and starts again, one of `models.heads.INITS`.
        cache_dir: where results that are worth keeping go, under a name made from `fingerprint`.
        fingerprint: a hexadecimal digest of the source weights, the training files and their preprocessing.
        precision: how the networks compute.
        ranks: the processes of the run, each of which sees its share of a batch.
        accum: into how many parts each of them divides its share.
    """

    model: nn.Layer
    source: nn.Layer | None
    train: CleanImages
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
    def parts(self) -> int:
        """Into how many parts a batch is divided, over ranks and in each.

        `loss` sees one part and gradients are averaged over them: a term that is a mean over the images needs nothing,
        a sum over them is multiplied by this.
        """
        return self.ranks.count * self.accum


class Regularizer(nn.Layer):
    """One fine-tuning method. Every default does nothing: that is plain fine-tuning.

    A method is a layer: what it trains is a parameter, what it must remember a buffer or a frozen sublayer, so
    `parameters()` goes to the optimizer and `state_dict()` to the checkpoint. The student is passed in, never stored.
    Its hyper-parameters are the keyword-only arguments of its constructor; the command line is made from them.
    """

    needs_source = False  # True: refused without pretrained weights
    mixes = False  # True: `transform` blends images with one another
    acts_on_backbone = False  # True: means nothing when the backbone is frozen
    needs_stages = ""  # why it works on the residual stages of a ResNet only
    whole_batch = ""  # why `loss` is no mean or sum over the parts of a batch, for which `--accum` is refused
    terms: tuple[str, ...] = ()  # the names `loss` may return

    def check(self, total_steps: int) -> None:
        """Refuse, before anything is loaded, a run of `total_steps` that the method has no meaning for.

        Raises:
            UsageError: with the flag, its value and what is accepted.
        """

    def conflict(self, other: Regularizer) -> str | None:
        """Return why the method has no meaning together with `other`, None when it has one."""
        if self.mixes and other.mixes:
            return "both mix the images"
        shared = set(self.terms) & set(other.terms)
        return f"both name the term {min(shared)}" if shared else None

    def prepare(self, setup: Setup) -> None:
        """Build, once, what needs the networks or the data."""

    def transform(self, batch: Batch, step: int) -> Batch:
        """Return the batch the student is to see at `step`."""
        return batch

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        """Return the method's terms: scalars by name, already weighted, to be added to the cross-entropy.

        A term named "ce" replaces the cross-entropy. Neither `model` nor anything frozen is changed here.
        """
        return {}

    def after_backward(self, model: nn.Layer, step: int) -> None:
        """Add to the gradients a penalty's own, known in closed form: cheaper than a term, the same update."""

    def after_step(self, model: nn.Layer, step: int) -> None:
        """Change what has to change after the optimizer's update number `step`."""

    def report(self, model: nn.Layer) -> dict[str, paddle.Tensor]:
        """Return the values, by name, of what `after_backward` adds; asked for only when they are logged."""
        return {}


class Chain(Regularizer):
    """Several methods as one: transforms in order, terms united.

    Args:
        parts: the methods by name, in order.

    Raises:
        UsageError: two parts have no meaning together.
    """

    def __init__(self, parts: dict[str, Regularizer]):
        super().__init__()
        items = list(parts.items())
        for i, (name, part) in enumerate(items):
            for other_name, other in items[i + 1 :]:
                reason = part.conflict(other) or other.conflict(part)
                if reason:
                    raise UsageError(
                        f"--regularizer {'+'.join(parts)}: {name} and {other_name} cannot be one: {reason}"
                    )
        self.parts = nn.LayerDict(parts)
        self.needs_source = any(part.needs_source for part in parts.values())
        self.mixes = any(part.mixes for part in parts.values())
        self.acts_on_backbone = any(part.acts_on_backbone for part in parts.values())
        self.needs_stages = "; ".join(part.needs_stages for part in parts.values() if part.needs_stages)
        self.whole_batch = "; ".join(part.whole_batch for part in parts.values() if part.whole_batch)
        self.terms = tuple(term for part in parts.values() for term in part.terms)

    def check(self, total_steps):
        for part in self.parts.values():
            part.check(total_steps)

    def prepare(self, setup):
        for part in self.parts.values():
            part.prepare(setup)

    def transform(self, batch, step):
        for part in self.parts.values():
            batch = part.transform(batch, step)
        return batch

    def loss(self, model, batch, outputs, step):
        return {
            name: term for part in self.parts.values() for name, term in part.loss(model, batch, outputs, step).items()
        }

    def after_backward(self, model, step):
        for part in self.parts.values():
            part.after_backward(model, step)

    def after_step(self, model, step):
        for part in self.parts.values():
            part.after_step(model, step)

    def report(self, model):
        return {name: value for part in self.parts.values() for name, value in part.report(model).items()}

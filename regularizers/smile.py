"""SMILE: self-distilled mixup for transfer learning (Li, Xiong, Xu, Dou, arXiv 2103.13941).

The student sees mixed images x_mix = lam x + (1 - lam) x[pi] and is asked for three things at once:

    ce    CE(z(x_mix), lam y + (1 - lam) y[pi])                                     the mixed labels
    fea   reg_lambda || lam phi_T(x) + (1 - lam) phi_T(x)[pi] - phi_S(x_mix) ||_F / (h w)   the mixed feature maps
    aux   aux_lambda CE(z_aux(x_mix), lam P + (1 - lam) P[pi]),  P = softmax(z_T(x))        the mixed source classes

T, the teacher, starts as the pretrained network with its own head; its backbone follows the student by a moving
average. z_aux is a second head of the student that starts as the pretrained classifier. phi [B, C, h, w] is the last
map before the pooling; the norm is taken over the whole batch and is not squared.

Differs from the reference: the teacher is updated at every step with decay 0.9999 (the half-life of the reference's
0.999 at every tenth; `ema_decay`, `ema_every` bring that back), after the optimizer's step instead of before it; a run
that `clean_tail` would leave without a SMILE step is refused; the heads' second decay `cls_lambda` belongs to the run.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup
from regularizers.losses import cross_entropy, frobenius_norm
from regularizers.mixup import mix_batch
from regularizers.teacher import MeanTeacher
from utils.rng import generator
from utils.shares import HalfLife, Share


class SMILE(Regularizer):
    """Mix images, labels, feature maps and source-class predictions alike.

    Args:
        alpha: of Beta(alpha, alpha), from which the mixing ratio is drawn.
        reg_lambda: weight of the feature term.
        aux_lambda: weight of the source-class term.
        ema_decay: decay of the teacher's moving average; 1 freezes the teacher.
        ema_every: steps from one update of the teacher to the next.
        ema_bn_stats: whether batch normalisation's running statistics are averaged too (the reference: yes; the
            authors' PyTorch code: no).
        clean_tail: the last steps, which are plain fine-tuning on clean images.
    """

    averaged = "teacher.network"

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        reg_lambda: float = 0.01,
        aux_lambda: float = 0.1,
        ema_decay: float = HalfLife(0.9999),
        ema_every: int = 1,
        ema_bn_stats: bool = True,
        clean_tail: int = Share(1000),
    ):
        super().__init__()
        validate.not_negative(alpha=alpha, reg_lambda=reg_lambda, aux_lambda=aux_lambda)
        validate.share(ema_decay=ema_decay)
        validate.count(ema_every=ema_every)
        validate.count(0, clean_tail=clean_tail)
        self.alpha = alpha
        self.reg_lambda, self.aux_lambda = reg_lambda, aux_lambda
        self.ema_decay, self.ema_every, self.ema_bn_stats = ema_decay, ema_every, ema_bn_stats
        self.clean_tail = clean_tail

    def requirements(self) -> Requirements:
        tail = f"the last --clean_tail {self.clean_tail} are plain fine-tuning, accepted is a tail from 0"
        return Requirements(
            source=True,
            mixes=True,
            backbone="regularized",
            whole_batch="its term fea is a norm over the maps of all images",
            steps=(self.clean_tail + 1, tail),
            terms=("fea", "aux"),
        )

    def prepare(self, setup: Setup) -> None:
        self.seed, self.ranks = setup.seed, setup.ranks
        self.first_clean = setup.total_steps - self.clean_tail
        self.teacher = MeanTeacher(setup.source, self.ema_bn_stats, setup.precision)
        source_head = setup.source.head
        self.aux_head = nn.Linear(*source_head.weight.shape)
        self.aux_head.set_state_dict(source_head.state_dict())

    def transform(self, batch: Batch, step: int) -> Batch:
        if step >= self.first_clean:
            return batch
        return mix_batch(batch, generator(self.seed, "mix", step), self.alpha)

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        if step >= self.first_clean:
            return {}
        taught = self.teacher(batch.mix.images)
        difference = batch.mix.blend(taught.maps[-1]) - outputs.maps[-1]
        h, w = difference.shape[-2:]
        source_classes = batch.mix.blend(F.softmax(taught.logits, axis=1))
        return {
            "fea": self.reg_lambda * frobenius_norm(difference, self.ranks) / (h * w),
            "aux": self.aux_lambda * cross_entropy(self.aux_head(outputs.features), source_classes),
        }

    def after_step(self, model: nn.Layer, step: int) -> None:
        if step < self.first_clean and step % self.ema_every == 0 and self.ema_decay < 1:
            self.teacher.update(model, self.ema_decay)

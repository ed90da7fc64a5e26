"""RIFLE: start the head again now and then, so that deep gradients reach the backbone (Li et al., arXiv 2007.03349).

    loss = CE;   after update t the head is drawn anew when t % max(1, total_steps // reinits) == 0 and t < total_steps

The whole head is redrawn, weight and bias, as `--head_init` says (zeros for `probe`); backbone, momentum and learning
rate go on as they are. `reinits` counts as in the code of SMILE's authors, with the end of the run, where nothing is
redrawn, as one of the moments: of 9000 updates, 1 redraws never, 2 after 4500, 4 after 2250, 4500 and 6750.

Differs from the official code: moments are counted in updates instead of epochs, `reinits` is its fc_reinit_times + 1,
and the rate is not restarted with the head (its `cyclic`). Differs from that of SMILE's authors: the head is redrawn
after the optimizer's step, not between the forward and the backward pass.
"""

from __future__ import annotations

from paddle import nn

from models.heads import reset_head
from regularizers import validate
from regularizers.base import Regularizer, Setup
from utils.rng import generator


class RIFLE(Regularizer):
    """Draw the head anew at equal distances.

    Args:
        reinits: into how many parts the moments divide the run; 1 leaves the head alone. The authors of SMILE use 2
            for birds, 4 for cars and aircraft.
    """

    def __init__(self, *, reinits: int = 2):
        super().__init__()
        validate.count(reinits=reinits)
        self.reinits = reinits

    def prepare(self, setup: Setup) -> None:
        self.seed, self.head_init, self.total_steps = setup.seed, setup.head_init, setup.total_steps
        self.period = max(1, setup.total_steps // self.reinits)

    def after_step(self, model: nn.Layer, step: int) -> None:
        done = step + 1
        if done % self.period == 0 and done < self.total_steps:
            reset_head(model.head, generator(self.seed, "head", done), self.head_init)

"""The learning rate of every update."""

from __future__ import annotations

import math

import paddle

from training.options import Options

DROP = 0.1


class Schedule(paddle.optimizer.lr.LRScheduler):
    """The rate of update t, counted from 0: `lr` times the warm-up's share times the shape's.

        warm-up    min(1, (t + 1) / (N + 1)),   N = warmup: 1/(N + 1) at the first update, 1 from update N on
        step       1 before update `drop`, 0.1 from there on
        cosine     (1 + cos(pi (t - N) / (T - N))) / 2 from update N on, 1 before:   T = total; 1 at update N, 0 at T,
                   which is one after the last

    It is a function of t alone. The cosine is that of Loshchilov and Hutter, arXiv 1608.03983, without restarts.

    Args:
        lr: the highest rate.
        drop: the update from which the rate of "step" is a tenth; None for "cosine".
        total: the updates of the run, which "cosine" needs.
        warmup: updates with a lower rate at the start.
    """

    def __init__(self, lr: float, drop: int | None = None, total: int = 0, warmup: int = 0) -> None:
        self._drop, self._total, self._warmup = drop, total, warmup
        super().__init__(lr)

    @classmethod
    def of(cls, options: Options) -> Schedule:
        """Return the schedule of a run."""
        drop = options.lr_drop if options.schedule == "step" else None
        return cls(options.lr, drop, options.max_iters, options.warmup)

    def get_lr(self) -> float:
        """Return the rate of update `last_epoch`."""
        step, start = self.last_epoch, self._warmup
        if self._drop is not None:
            share = DROP if step >= self._drop else 1.0
        else:
            share = (1 + math.cos(math.pi * max(step - start, 0) / (self._total - start))) / 2
        return self.base_lr * (min(1.0, (step + 1) / (start + 1)) * share)

"""What a step measured, kept on the device until somebody looks."""

from __future__ import annotations

import math

import paddle

from utils.batch import Batch
from utils.errors import Diverged
from utils.ranks import Ranks, alone


class Meter:
    """Loss terms and training accuracy since the last look, from the training forward itself.

    Args:
        ranks: over which they are averaged when somebody looks; all ranks look together.
    """

    def __init__(self, ranks: Ranks = alone):
        self._ranks = ranks
        self._steps: list[tuple[int, list[str], paddle.Tensor]] = []
        self._rows: list[dict] = []

    @paddle.no_grad()
    def add(self, step: int, terms: dict[str, paddle.Tensor], logits: paddle.Tensor, batch: Batch) -> None:
        """Note the terms and how often the highest score is the larger part of the target, without a device sync."""
        hits = (logits.argmax(axis=1) == batch.targets.argmax(axis=1)).astype("float32").mean()
        values = [*(term.detach().astype("float32").reshape([]) for term in terms.values()), hits]
        self._steps.append((step, list(terms), paddle.stack(values)))

    def state(self) -> list[dict]:
        """Bring what was noted to the host and return it, one row a step.

        Raises:
            Diverged: a term is no longer a finite number; the first one is named.
        """
        self._ranks.average([values for _, _, values in self._steps])
        for step, terms, values in self._steps:
            *losses, hits = values.tolist()
            for name, value in zip(terms, losses):
                if not math.isfinite(value):
                    raise Diverged(f"the loss term {name} is {value} at step {step + 1}; try a smaller --lr")
            self._rows.append({"loss": sum(losses), **dict(zip(terms, losses)), "hits": hits})
        self._steps = []
        return self._rows

    def resume(self, rows: list[dict]) -> None:
        """Take back what `state` gave."""
        self._rows = list(rows)

    def means(self) -> tuple[dict[str, float], float]:
        """Return the mean of the loss and of each term over the steps that had it, and the accuracy in percent.

        What was noted is forgotten.
        """
        rows, self._rows = self.state(), []
        names = list(dict.fromkeys(name for row in rows for name in row if name != "hits"))
        means = {}
        for name in names:
            values = [row[name] for row in rows if name in row]
            means[name] = sum(values) / len(values)
        return means, 100 * sum(row["hits"] for row in rows) / len(rows)

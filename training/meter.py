"""What a run measures: loss terms and training accuracy, kept on the device until they are reported, and times."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import paddle

from datasets.batch import Batch
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import Diverged


class Meter:
    """Loss terms and training accuracy since the last report, from the training forward pass itself.

    Args:
        ranks: over which they are averaged; all ranks ask for them together.
    """

    def __init__(self, ranks: Ranks = SINGLE_PROCESS):
        self._ranks = ranks
        self._steps: list[tuple[int, list[str], paddle.Tensor]] = []
        self._rows: list[dict] = []

    @paddle.no_grad()
    def add(self, step: int, terms: dict[str, paddle.Tensor], logits: paddle.Tensor, batch: Batch) -> None:
        """Record the terms and the share of images whose top class is the target's, without a device sync."""
        hits = (logits.argmax(axis=1) == batch.targets.argmax(axis=1)).astype("float32").mean()
        values = [*(term.detach().astype("float32").reshape([]) for term in terms.values()), hits]
        self._steps.append((step, list(terms), paddle.stack(values)))

    def state(self) -> list[dict]:
        """Copy the records to the host and return them, one row per step.

        Raises:
            Diverged: a term is not finite; the message names the first one.
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
        """Restore what `state` returned."""
        self._rows = list(rows)

    def means(self) -> tuple[dict[str, float], float]:
        """Return the mean of the loss and of each term over the steps that had it, and the accuracy in percent.

        The records are cleared.
        """
        rows, self._rows = self.state(), []
        names = list(dict.fromkeys(name for row in rows for name in row if name != "hits"))
        means = {}
        for name in names:
            values = [row[name] for row in rows if name in row]
            means[name] = sum(values) / len(values)
        return means, 100 * sum(row["hits"] for row in rows) / len(rows)


class Stopwatch:
    """The time of a run from its first batch on, summed over its sessions when it is resumed.

    It never waits for the device: on a GPU, which computes steps in the meantime, the lost time is an upper bound.
    """

    def __init__(self):
        self._started, self._before, self.lost = None, 0.0, 0.0

    def start(self) -> None:
        """Start, or continue from the time that `resume` restored."""
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds until now."""
        return self._before + (0.0 if self._started is None else time.perf_counter() - self._started)

    @property
    def step_share(self) -> float:
        """The share of the time that was spent in training steps: all but the lost time."""
        return 1 - self.lost / self.seconds

    @contextlib.contextmanager
    def exclude(self) -> Iterator[None]:
        """Count the time of the block as lost; nested blocks count once."""
        lost, start = self.lost, time.perf_counter()
        yield
        self.lost = lost + time.perf_counter() - start

    def data_wait(self, items: Iterator) -> Iterator:
        """Yield `items`; the time spent waiting for each counts as lost."""
        while True:
            with self.exclude():
                item = next(items, None)
            if item is None:
                return
            yield item

    def state(self) -> dict[str, float]:
        """Return the seconds until now and how many of them were lost."""
        return {"seconds": self.seconds, "lost_seconds": self.lost}

    def resume(self, seconds: float, lost_seconds: float = 0.0) -> None:
        """Restore what `state` returned."""
        self._before, self.lost = seconds, lost_seconds

"""Lines that a run says when its numbers look wrong: what was seen and what to do. None of them changes the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

FAR = 1.5  # a first cross-entropy or a later one above so many times that of guessing is far
LEARNED = 99.5  # training accuracy in percent from which nothing is left to learn
FALLEN = 2.0  # percentage points below the best evaluation


class Advice:
    """Looks at what a run reports; says each thing once.

    Args:
        say: takes a line.
        classes: number of classes.
        source_classes: number of those of the pretrained network, None without one.
        total: updates in the whole run.
    """

    def __init__(self, say: Callable[[str], None], classes: int, source_classes: int | None, total: int):
        self._say, self._guess, self._source_classes, self._total = say, math.log(classes), source_classes, total
        self._said: set[str] = set()

    def first(self, cross_entropy: float) -> None:
        """Look at the cross-entropy of the first update, before anything was learned."""
        if cross_entropy > FAR * self._guess:
            self._once(
                "start",
                f"the first cross-entropy is {cross_entropy:.1f}, guessing has {self._guess:.1f}: the new head starts "
                "with large wrong answers, which few images do not unlearn; --head_init zero starts from guessing",
            )

    def report(self, done: int, means: dict[str, float]) -> None:
        """Look at the mean loss terms since the last report, after `done` updates."""
        if done > self._total / 10 and means["ce"] > FAR * self._guess:
            self._once(
                "rate",
                f"after {done} updates the cross-entropy is {means['ce']:.1f}, guessing has {self._guess:.1f}: "
                "the learning rate is too high; try a tenth of --lr",
            )
        for name, value in means.items():
            if value == 0 and name != "ce" and self._source_classes == 1:
                self._once(name, f"the term {name} is 0: the pretrained network has one output, which says nothing")

    def evaluation(self, rows: Sequence[dict]) -> None:
        """Look at the rows of the run's table, one for each evaluation so far."""
        if len(rows) < 3 or int(rows[-1]["step"]) > 0.8 * self._total:
            return
        best = max(rows, key=lambda row: float(row["val_acc"]))
        learned = all(float(row["train_acc"]) >= LEARNED for row in rows[-2:])
        falling = all(float(row["val_acc"]) <= float(best["val_acc"]) - FALLEN for row in rows[-2:])
        if learned and falling:
            self._once(
                "length",
                f"every training image is right, and the evaluation fell from {float(best['val_acc']):.1f} % at step "
                f"{best['step']}: a shorter run (--max_iters {best['step']}) or a smaller --lr may do better; "
                "_Best has that step's weights",
            )

    def _once(self, kind: str, line: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(line)

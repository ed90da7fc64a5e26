"""Two networks compared on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from datasets.loader import Dataset
from utils import errors

RESAMPLES = 10_000


class Answers(NamedTuple):
    """Which images a checkpoint classifies correctly.

    Attributes:
        path: the checkpoint.
        images: the images it was scored on.
        correct: whether its top class is the label, bool [N].
    """

    path: str
    images: Dataset
    correct: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Two networks, A and B, on the same images.

    Attributes:
        count: the images.
        only_a: images that A alone classifies correctly.
        only_b: images that B alone classifies correctly.
        low: lower end of the 95 % interval of `difference`.
        high: its upper end.
        p_value: of McNemar's exact test, two-sided: the probability of a split at least as uneven as only_a : only_b
            if both networks are equally good.
    """

    count: int
    only_a: int
    only_b: int
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of B minus that of A, in percentage points."""
        return 100 * (self.only_b - self.only_a) / self.count

    def __str__(self) -> str:
        return (
            f"{self.difference:+.2f} points, 95 % interval {self.low:+.2f} to {self.high:+.2f} (bootstrap)\n"
            f"of {self.count} images A alone has {self.only_a} right, B alone {self.only_b}: "
            f"McNemar's exact test p = {self.p_value:.2g}"
        )

    def to_dict(self) -> dict:
        """Return the fields of a file of results."""
        return {"difference": self.difference, **asdict(self)}


def compare(right_a: np.ndarray, right_b: np.ndarray, seed: int = 0) -> Comparison:
    """Compare two networks by the images that only one of them classifies correctly.

    Args:
        right_a: whether A classifies each image correctly, bool [N].
        right_b: the same for B, bool [N].
        seed: of the percentile bootstrap over the images, `RESAMPLES` times.
    """
    from scipy.stats import binomtest  # takes a second: only where two are compared

    only_a, only_b, count = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()), len(right_a)
    # resampling the images is the same as drawing how many of each kind there are
    kinds = np.array([only_a, only_b, count - only_a - only_b]) / count
    draws = np.random.default_rng(seed).multinomial(count, kinds, size=RESAMPLES)
    low, high = np.percentile(100 * (draws[:, 1] - draws[:, 0]) / count, [2.5, 97.5])
    discordant = only_a + only_b
    p_value = binomtest(only_a, discordant).pvalue if discordant else 1.0
    return Comparison(count, only_a, only_b, float(low), float(high), float(p_value))


def compare_checkpoints(a: Answers, b: Answers, seed: int) -> Comparison:
    """Compare two checkpoints as `compare` does.

    Raises:
        WeightsError: they have different classes, so different images were scored.
    """
    if not np.array_equal(a.images.positions, b.images.positions):
        odd = sorted({*a.images.class_names} ^ {*b.images.class_names})
        raise errors.WeightsError(f"--compare: {a.path} and {b.path} have different classes: {errors.names(odd)}")
    return compare(a.correct, b.correct, seed)

"""Calibration: a temperature that makes probabilities mean what they say, and the confidence from which to accept.

    p(x) = softmax(z(x) / T),   T = argmin mean -log p(x)_y   over held-out images

(arXiv 1706.04599, section 4.2). The mean is convex in 1 / T. T changes no top class, so no accuracy. Both are fitted
on images that were held out of training; a score to report needs others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from evaluation.coverage import curve
from evaluation.metrics import accuracy, calibration_error, confidences, cross_entropy, hits, softmax
from utils.errors import Diverged, UsageError

LOWEST, HIGHEST = 0.1, 10.0  # temperatures: where every held-out image is right, the mean falls down to T = 0
SURE = 0.9  # the confidence level of the bound that a threshold is chosen by, one-sided


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest mean cross-entropy, from `LOWEST` to `HIGHEST`.

    It is `LOWEST` where every image is right by a margin that can only gain from it, and 1 where no temperature
    changes anything.

    Args:
        logits: of held-out images, float [N, K]; N is at least 1.
        labels: theirs, int [N].

    Raises:
        Diverged: a logit is not a finite number.
    """
    from scipy.optimize import brentq  # slow to import: only where a temperature is fitted

    if not np.isfinite(logits).all():
        raise Diverged("the network's outputs for held-out images are not finite; try a smaller --lr")
    shifted = logits.astype("float64")
    shifted -= shifted.max(axis=1, keepdims=True)
    true = shifted[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:  # the derivative by 1 / T, which never falls
        return float(np.einsum("ij,ij->i", softmax(inverse * shifted), shifted).mean() - true)

    at_highest, at_lowest = slope(1 / HIGHEST), slope(1 / LOWEST)
    if at_highest == at_lowest == 0:
        return 1.0
    if at_highest >= 0:
        return HIGHEST
    if at_lowest <= 0:
        return LOWEST
    return float(1 / brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12, rtol=1e-12))


def calibrate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the entry `calibration` of a checkpoint, from the logits [N, K] of held-out images and their labels [N].

    Returns:
        "temperature"; "confidence", the probability of the top class at that temperature, float32 [N], ascending;
        "correct", whether that class is the label, bool [N].
    """
    temperature = fit_temperature(logits, labels)
    sure = confidences(logits / np.float64(temperature)).astype("float32")
    order = sure.argsort(kind="stable")
    return {"temperature": temperature, "confidence": sure[order], "correct": hits(logits, labels, 1)[order]}


class Confidence(NamedTuple):
    """What probabilities say and what they are worth.

    Attributes:
        confidence: the mean probability of the top class in percent.
        ece: the expected calibration error in percent.
        loss: the mean cross-entropy.
    """

    confidence: float
    ece: float
    loss: float

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray) -> Confidence:
        """Return those of `logits` [N, K] against `labels` [N]."""
        sure = 100 * float(confidences(logits).mean())
        return cls(sure, calibration_error(logits, labels), cross_entropy(logits, labels))


@dataclass(frozen=True)
class Calibration:
    """What a temperature changes on some images.

    Attributes:
        temperature: what the logits are divided by.
        fitted_on: the number of held-out images that it was fitted on.
        acc: top-1 accuracy in percent, before as after.
        before: without the temperature.
        after: with it.
    """

    temperature: float
    fitted_on: int
    acc: float
    before: Confidence
    after: Confidence

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, temperature: float, fitted_on: int) -> Calibration:
        """Return that of `logits` [N, K], before the temperature, against `labels` [N]."""
        scaled = logits / np.float64(temperature)
        before, after = Confidence.of(logits, labels), Confidence.of(scaled, labels)
        return cls(temperature, fitted_on, accuracy(logits, labels), before, after)

    def __str__(self) -> str:
        before, after = self.before, self.after
        return (
            f"temperature {self.temperature:.4f}, fitted on {self.fitted_on} held-out images: right {self.acc:.2f} %, "
            f"mean confidence {before.confidence:.2f} -> {after.confidence:.2f} %, ECE {before.ece:.2f} -> "
            f"{after.ece:.2f} %, loss {before.loss:.4f} -> {after.loss:.4f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a file of results."""
        return {**asdict(self), "before": self.before._asdict(), "after": self.after._asdict()}


@dataclass(frozen=True)
class Threshold:
    """The confidence from which answers are accepted, with what came of it on the held-out images.

    Attributes:
        target: the accuracy of accepted answers that was asked for, 0 to 1.
        confidence: the lowest that is accepted.
        images: the held-out images.
        accepted: those of them that are accepted.
        right: those of them that are right.
    """

    target: float
    confidence: float
    images: int
    accepted: int
    right: int

    def rejects(self, confidence: np.ndarray) -> np.ndarray:
        """Return of each image whether its answer is not accepted, bool [N], from its `confidence` [N]."""
        return confidence.astype("float32") < np.float32(self.confidence)  # as they were kept

    def __str__(self) -> str:
        rejected = self.images - self.accepted
        return (
            f"rejected below a confidence of {self.confidence:.4f}: on {self.images} held-out images it rejects "
            f"{rejected} ({100 * rejected / self.images:.1f} %) and is right on {self.right} of the other "
            f"{self.accepted} ({100 * self.target:g} % or more of new ones, with {100 * SURE:.0f} % confidence)"
        )


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, target: float) -> Threshold:
    """Return the lowest threshold from which on answers are right in a share of at least `target`.

    A threshold counts when the held-out images that it accepts have no more errors than `allowed_errors`; the plain
    share would promise everything from one image that happens to be right. The promise is about images like the
    held-out ones, of the same classes.

    Args:
        confidence: of the held-out images, float [N], ascending.
        correct: whether each is right, bool [N].
        target: 0 to 1, both excluded.

    Raises:
        UsageError: no threshold reaches it; says what would.
    """
    from scipy.stats import beta  # slow to import: only where a threshold is asked for

    confidence, accepted, right = curve(correct, confidence)
    allowed = allowed_errors(len(correct), target)
    reached = np.flatnonzero(accepted - right <= allowed[accepted - 1])
    if not len(reached):
        needed = int(np.argmax(allowed >= 0)) + 1 if allowed[-1] >= 0 else _fewest(target)
        best = int(beta.ppf(1 - SURE, np.maximum(right, 0.5), accepted - right + 1).argmax())
        raise UsageError(
            f"--reject {target:g}: no threshold reaches it on {len(correct)} held-out images: the best is right on "
            f"{right[best]} of {accepted[best]}; {needed} accepted images without an error would do"
        )
    at = int(reached[-1])
    return Threshold(target, float(confidence[at]), len(correct), int(accepted[at]), int(right[at]))


def _fewest(target: float) -> int:
    """Return the number of images whose answers, all right, show an accuracy of `target`."""
    return int(np.ceil(np.log(1 - SURE) / np.log(target)))


@lru_cache(maxsize=8)
def allowed_errors(count: int, target: float) -> np.ndarray:
    """Return with how many errors the k surest of `count` images show an accuracy of `target`, int [count], -1: none.

        errors_k = max {e: P(E_k <= e) < chance},   E_k ~ Binomial(k, 1 - target)

    is the rule of Clopper and Pearson for one k (Biometrika, 1934). As the lowest of many thresholds is chosen, the
    `chance` is so low that errors which fall at random are few enough at any k in at most 1 - `SURE` of the draws. So
    the promise is broken in at most as many, if an answer is right the more often the surer it is: below the confidence
    from which on accepted answers reach `target`, each of them is wrong at least as often as in those draws.
    """
    from scipy.stats import binom  # slow to import: only where a threshold is asked for

    sizes = np.arange(1, count + 1)

    def errors(chance: float) -> np.ndarray:
        return binom.ppf(chance, sizes, 1 - target).astype("int64") - 1

    low, high = (1 - SURE) / count, 1 - SURE  # the sum over all k is no more than 1 - SURE at `low`
    if passing(errors(high), target) <= 1 - SURE:
        return errors(high)
    while high > 1.01 * low:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if passing(errors(middle), target) <= 1 - SURE else (low, middle)
    return errors(low)


def passing(allowed: np.ndarray, target: float) -> float:
    """Return the probability that of answers that are right with probability `target` each, one after the other, the
    first k have at most `allowed[k - 1]` errors, at one or more k; exact. `allowed` never falls.
    """
    shares, total = np.zeros(max(allowed[-1] + 1, 1)), 0.0  # of e errors and no such k yet; with more none follows
    shares[0] = 1.0
    for most in allowed.tolist():
        wrong = (1 - target) * shares[:-1]
        shares *= target
        shares[1:] += wrong
        total += shares[: most + 1].sum()
        shares[: most + 1] = 0
    return float(total)

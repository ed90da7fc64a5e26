"""What confidence is worth on images that no threshold was chosen on, and against images of no known class."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.folder import ImageFolder
from evaluation.calibration import Threshold
from evaluation.intervals import interval
from evaluation.metrics import confidences, hits
from evaluation.prediction import Given, image_files, label
from evaluation.scoring import Scored
from utils.errors import DataError

TPR = 95  # percent of the known images that are accepted where the false positives are counted


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Return the probability that a known image is surer than an unknown one, 0 to 1; equal ones count half.

    Args:
        known: the confidence of the images of known classes, [N].
        unknown: that of the others, [M].
    """
    ordered = np.sort(unknown)
    below, up_to = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
    return float((below + up_to).sum() / 2 / len(known) / len(unknown))


@dataclass(frozen=True)
class Detection:
    """How well the confidence tells images of no known class from others (arXiv 1610.02136).

    Attributes:
        known: images of the checkpoint's classes, right or wrong.
        unknown: images of none of them.
        auroc: the probability that one of the first is surer than one of the second, 0 to 1; equal ones count half.
        known_accepted: of the known images, at the highest threshold that accepts `TPR` percent of them or more.
        unknown_accepted: of the unknown ones, there: the false positives.
    """

    known: int
    unknown: int
    auroc: float
    known_accepted: int
    unknown_accepted: int

    @classmethod
    def of(cls, known: np.ndarray, unknown: np.ndarray) -> Detection:
        """Return that of the confidences `known` [N] and `unknown` [M]; neither is empty."""
        needed = -(-TPR * len(known) // 100)
        threshold = np.sort(known)[len(known) - needed]
        accepted = (int((each >= threshold).sum()) for each in (known, unknown))
        return cls(len(known), len(unknown), auroc(known, unknown), *accepted)

    @property
    def fpr(self) -> float:
        """The share of the unknown images that are accepted there, in percent."""
        return 100 * self.unknown_accepted / self.unknown

    def __str__(self) -> str:
        return (
            f"{self.unknown} unknown images, {self.known} known: AUROC of the confidence {self.auroc:.4f}; where "
            f"{TPR} % of the known are accepted ({self.known_accepted}/{self.known}), {self.fpr:.2f} % of the unknown "
            f"are ({self.unknown_accepted}/{self.unknown})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a file of results."""
        return {**asdict(self), f"fpr{TPR}": self.fpr}


@dataclass(frozen=True)
class Acceptance:
    """What a threshold makes of images that it was not chosen on.

    Attributes:
        target: the accuracy of accepted answers that was asked for, 0 to 1.
        confidence: the lowest that is accepted.
        images: of the checkpoint's classes.
        accepted: those of them that are accepted.
        right: those of them that are right.
        unknown: images of none of the classes.
        unknown_rejected: those of them that are rejected.
    """

    target: float
    confidence: float
    images: int
    accepted: int
    right: int
    unknown: int = 0
    unknown_rejected: int = 0

    @classmethod
    def of(
        cls, threshold: Threshold, confidence: np.ndarray, correct: np.ndarray, unknown: np.ndarray | None = None
    ) -> Acceptance:
        """Return that of `threshold` for images of a `confidence` [N] that are `correct` or not, bool [N].

        `unknown` is the confidence of images of no known class, [M]; None without such.
        """
        accepted = ~threshold.rejects(confidence)
        numbers = len(correct), int(accepted.sum()), int(correct[accepted].sum())
        others = () if unknown is None else (len(unknown), int(threshold.rejects(unknown).sum()))
        return cls(threshold.target, threshold.confidence, *numbers, *others)

    @property
    def rejected(self) -> float:
        """The share of the images that are rejected, in percent."""
        return 100 * (self.images - self.accepted) / self.images

    @property
    def acc(self) -> float | None:
        """The accuracy of the accepted images in percent; None without one."""
        return 100 * self.right / self.accepted if self.accepted else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `acc` (Wilson's); None without an accepted image."""
        return interval(self.right, self.accepted) if self.accepted else None

    def __str__(self) -> str:
        parts = [
            f"--reject {self.target:g} (below a confidence of {self.confidence:.4f}): rejects "
            f"{self.images - self.accepted} of {self.images} images ({self.rejected:.1f} %)"
        ]
        if self.accepted:
            low, high = self.interval
            parts.append(
                f"right on {self.right} of the other {self.accepted}: {self.acc:.2f} %, 95 % interval {low:.1f} to "
                f"{high:.1f}"
            )
        if self.unknown:
            share = 100 * self.unknown_rejected / self.unknown
            parts.append(f"rejects {self.unknown_rejected} of {self.unknown} unknown images ({share:.1f} %)")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a file of results."""
        low, high = self.interval or (None, None)
        return {**asdict(self), "rejected": self.rejected, "acc": self.acc, "low": low, "high": high}


def find_unknown(folder: str, known: ImageFolder) -> Given:
    """Return the images below the folder of `--unknown_dir`, each of which must be readable.

    Raises:
        DataError: it is not a folder, has no image, or one that is among the `known` images.
    """
    culprit = f"--unknown_dir {folder}"
    if not Path(folder).is_dir():
        raise DataError(f"{culprit}: {'not a folder' if Path(folder).exists() else 'no such folder'}")
    found = sorted(map(str, image_files(folder, culprit)))
    scored = {(known.root / path).resolve() for path in known.paths}
    both = [path for path in found if Path(path).resolve() in scored]
    if both:
        raise DataError(
            f"{culprit}: {len(both)} of its {len(found)} images are among those of {known.origin}, such as {both[0]}; "
            "accepted are images of none of the classes"
        )
    return dict.fromkeys(found, True)


def measure(scored: Scored, unknown: Given | None) -> tuple[Detection | None, list[Acceptance]]:
    """Return how a checkpoint tells the `unknown` images, and what each of its thresholds accepts.

    Raises:
        DataError: an unknown image cannot be read.
    """
    known, others = confidences(scored.logits), None
    if unknown:
        others = label([scored.model], unknown, scored.batch_size).probabilities.max(axis=1)
    correct = hits(scored.logits, scored.images.labels, 1)
    accepted = [Acceptance.of(each, known, correct, others) for each in scored.thresholds]
    return None if others is None else Detection.of(known, others), accepted

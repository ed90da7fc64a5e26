"""Accuracy against coverage: how often answers are right when only the most confident ones are accepted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Coverage(NamedTuple):
    """What is accepted from each confidence on, the highest confidence first; M are the distinct ones.

    Attributes:
        confidence: the lowest that is accepted, float64 [M].
        accepted: the images that are accepted, int64 [M].
        correct: those of them that are right, int64 [M].
    """

    confidence: np.ndarray
    accepted: np.ndarray
    correct: np.ndarray


def curve(correct: np.ndarray, confidence: np.ndarray) -> Coverage:
    """Return what is accepted, and right, as the confidence that is asked for falls.

    Equally confident images are accepted together. An image whose confidence is not a number is never accepted.

    Args:
        correct: whether each image is right, bool [N].
        confidence: of each, float [N].
    """
    known = ~np.isnan(confidence)
    levels, place = np.unique(-confidence[known], return_inverse=True)
    accepted = np.bincount(place, minlength=len(levels)).cumsum()
    right = np.bincount(place[correct[known]], minlength=len(levels)).cumsum()
    return Coverage(-levels, accepted, right)

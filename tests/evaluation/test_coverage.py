"""Accuracy against coverage, beside a count by hand for every threshold."""

import numpy as np
import pytest

from evaluation.coverage import curve


@pytest.mark.parametrize("levels", [4, 1000])  # many equal ones, and nearly none
def test_each_point_is_what_its_threshold_accepts(levels):
    rng = np.random.default_rng(levels)
    confidence = rng.integers(1, levels, 300) / levels
    correct = rng.random(300) < confidence
    found = curve(correct, confidence)
    assert found.confidence.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for threshold, accepted, right in zip(*found):
        kept = [hit for hit, sure in zip(correct.tolist(), confidence.tolist()) if sure >= threshold]
        assert (accepted, right) == (len(kept), sum(kept))
    assert (found.accepted[-1], found.correct[-1]) == (300, correct.sum())


def test_equal_confidences_are_accepted_together():
    found = curve(np.array([True, False, True, False]), np.array([0.5, 0.5, 0.9, 0.5]))
    assert found.confidence.tolist() == [0.9, 0.5]
    assert found.accepted.tolist() == [1, 4]
    assert found.correct.tolist() == [1, 2]


def test_what_is_not_a_number_is_never_accepted():
    found = curve(np.array([True, False]), np.array([0.5, np.nan]))
    assert [each.tolist() for each in found] == [[0.5], [1], [1]]
    assert [each.tolist() for each in curve(np.array([True]), np.array([np.nan]))] == [[], [], []]

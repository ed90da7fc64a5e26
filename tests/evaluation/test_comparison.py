"""Two networks compared on the same images."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from datasets.loader import Dataset
from evaluation import comparison
from evaluation.comparison import Answers
from utils.errors import WeightsError


def two(only_a, only_b, both, neither):
    """Return which images A and which B has right, with so many of each kind."""
    return np.repeat([[1, 0, 1, 0], [0, 1, 1, 0]], [only_a, only_b, both, neither], axis=1).astype(bool)


def test_mcnemar_by_hand():
    result = comparison.compare(*two(only_a=1, only_b=8, both=60, neither=11))
    assert (result.only_a, result.only_b, result.count) == (1, 8, 80)
    assert result.p_value == pytest.approx(2 * (1 + 9) / 2**9)  # no or one head in nine, either side
    assert result.difference == pytest.approx(100 * 7 / 80)
    turned = comparison.compare(*two(only_a=8, only_b=1, both=60, neither=11))
    assert turned.p_value == result.p_value
    assert turned.difference == -result.difference


@pytest.mark.parametrize("seed", range(3))
def test_a_comparison_against_scipy_and_a_plain_bootstrap(seed):
    rng = np.random.default_rng(seed)
    skill = rng.random(300)
    a, b = (rng.random(300) < skill * share for share in (0.9, 1.1))
    result = comparison.compare(a, b)
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    assert result.p_value == pytest.approx(min(1, 2 * binom.cdf(min(first, second), first + second, 0.5)))
    assert result.difference == pytest.approx(100 * (b.mean() - a.mean()))
    drawn = rng.integers(0, 300, (20_000, 300))
    wanted = np.percentile(100 * (b[drawn].mean(axis=1) - a[drawn].mean(axis=1)), [2.5, 97.5])
    np.testing.assert_allclose([result.low, result.high], wanted, atol=0.4)  # one image is 0.33 points


def test_the_interval_is_that_of_the_images(monkeypatch):
    a, b = two(only_a=40, only_b=90, both=500, neither=370)
    result = comparison.compare(a, b)
    kinds = np.array([-1.0] * 40 + [1.0] * 90 + [0.0] * 870)
    error = 100 * kinds.std() / math.sqrt(1000)
    assert result.low == pytest.approx(result.difference - 1.96 * error, abs=0.1)
    assert result.high == pytest.approx(result.difference + 1.96 * error, abs=0.1)
    assert str(result).startswith("+5.00 points, 95 % interval +2.")
    monkeypatch.setattr(comparison, "RESAMPLES", 20)  # so few that the seed shows
    few = comparison.compare(a, b)
    assert comparison.compare(a, b) == few
    assert comparison.compare(a, b, seed=1) != few


def test_two_that_are_right_on_the_same_images_do_not_differ():
    result = comparison.compare(*two(only_a=0, only_b=0, both=3, neither=1))
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_checkpoints_scored_on_different_images_are_not_compared():
    """Checkpoints of chosen classes: each is scored on the images of its classes alone."""
    names = ["cat", "dog", "emu", "fox"]
    a, b = (
        Answers(path, Dataset(None, np.arange(count), np.zeros(count, "int64"), names[:count]), np.ones(count, bool))
        for path, count in (("a.pdparams", 4), ("b.pdparams", 3))
    )
    with pytest.raises(WeightsError, match=r"a\.pdparams and b\.pdparams have different classes: fox"):
        comparison.compare_checkpoints(a, b, 0)
    assert comparison.compare_checkpoints(a, a, 0).count == 4

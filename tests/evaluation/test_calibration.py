"""Temperatures and thresholds against other computations, and the promise of a threshold by simulation."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binom

from evaluation.calibration import (
    HIGHEST,
    LOWEST,
    SURE,
    Calibration,
    allowed_errors,
    calibrate,
    choose_threshold,
    fit_temperature,
    passing,
)
from utils.errors import Diverged, UsageError


def images(count=200, width=5, scale=1.0, seed=0):
    """Return logits that say what they are worth, but for `scale`, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, width))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return (scale * logits).astype("float32"), labels


def loss(logits, labels, temperature):
    return -log_softmax(logits.astype("float64") / temperature, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_the_temperature_has_the_lowest_loss(scale):
    logits, labels = images(scale=scale)
    found = fit_temperature(logits, labels)
    wanted = minimize_scalar(lambda t: loss(logits, labels, np.exp(t)), bounds=(-3, 3), options={"xatol": 1e-9})
    assert found == pytest.approx(np.exp(wanted.x), rel=1e-5)
    assert found == pytest.approx(scale, rel=0.25)  # the scale is undone
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * found)


def test_where_no_temperature_is_lowest_it_is_at_its_limit():
    labels = np.array([0, 1, 2, 0])
    right = np.eye(3)[labels]
    assert fit_temperature(right, labels) == LOWEST
    assert fit_temperature(right[:1], labels[:1]) == LOWEST
    assert fit_temperature(right, (labels + 1) % 3) == HIGHEST
    assert fit_temperature(np.full((4, 3), 2.5), labels) == 1  # nothing changes anything
    assert fit_temperature(1e9 * right, labels) == 1  # without a loss at any temperature
    tied = np.array([[1.0, 1.0, 0.0]])
    assert fit_temperature(tied, np.array([0])) == LOWEST
    with pytest.raises(Diverged, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


def test_what_a_checkpoint_keeps_of_the_held_out_images():
    logits, labels = images()
    kept = calibrate(logits, labels)
    shares = softmax(logits.astype("float64") / kept["temperature"], axis=1)
    order = np.argsort(shares.max(axis=1), kind="stable")
    np.testing.assert_allclose(kept["confidence"], shares.max(axis=1)[order], rtol=1e-6)
    assert kept["correct"].tolist() == (shares.argmax(axis=1) == labels)[order].tolist()
    assert (kept["confidence"].dtype, kept["correct"].dtype) == ("float32", "bool")
    assert (np.diff(kept["confidence"]) >= 0).all()


def test_a_temperature_changes_the_confidence_and_no_answer():
    logits, labels = images(2000, scale=3.0)
    shown = Calibration.of(logits, labels, fit_temperature(*images(2000, scale=3.0, seed=1)), 2000)
    shares = softmax(logits.astype("float64") / shown.temperature, axis=1)
    assert shown.acc == pytest.approx(100 * (shares.argmax(axis=1) == labels).mean())
    assert shown.after.confidence == pytest.approx(100 * shares.max(axis=1).mean())
    assert shown.after.loss == pytest.approx(loss(logits, labels, shown.temperature))
    assert shown.before.loss == pytest.approx(loss(logits, labels, 1))
    assert shown.before.ece > 10  # three times too sure
    assert shown.after.ece < 4
    assert shown.to_dict()["before"] == {**shown.before._asdict()}
    assert "fitted on 2000 held-out images: right" in str(shown)


def test_the_probability_of_passing_is_that_of_all_sequences():
    target, allowed = 0.7, np.array([-1, -1, 0, 0, 0, 1, 1, 2, 2, 2, 3])
    wrong = np.array(list(itertools.product([0, 1], repeat=len(allowed))))
    shares = np.prod(np.where(wrong == 1, 1 - target, target), axis=1)
    passes = (wrong.cumsum(axis=1) <= allowed).any(axis=1)
    assert passing(allowed, target) == pytest.approx(shares[passes].sum())
    assert passing(allowed[:2], target) == 0
    assert passing(np.array([0]), target) == pytest.approx(0.7)


@pytest.mark.parametrize(("count", "target"), [(44, 0.95), (45, 0.95), (300, 0.95), (150, 0.5), (90, 0.99), (1, 0.05)])
def test_as_many_errors_are_allowed_as_the_promise_permits(count, target):
    allowed, sizes = allowed_errors(count, target), np.arange(1, count + 1)
    here = binom.cdf(allowed, sizes, 1 - target)  # 0 where no number of errors shows it
    more = binom.cdf(allowed + 1, sizes, 1 - target)
    assert here.max() < more.min() * (1 + 1e-9)  # one level for all sizes lies between
    assert passing(allowed, target) <= 1 - SURE
    if here.max() < (1 - SURE) / 1.05:  # a little higher a level would promise too much
        level = 1.03 * min(more.min(), 1 - SURE)
        assert passing(binom.ppf(level, sizes, 1 - target).astype(int) - 1, target) > 1 - SURE or level > 1 - SURE


def test_the_threshold_is_the_lowest_with_as_few_errors():
    rng = np.random.default_rng(1)
    confidence = np.sort(rng.random(120).round(2)).astype("float32")  # with ties
    correct = rng.random(120) < 0.5 + confidence / 2
    found = choose_threshold(confidence, correct, 0.75)
    allowed = allowed_errors(120, 0.75)
    accepted = {each: confidence >= each for each in np.unique(confidence)}
    shown = [each for each, taken in accepted.items() if (~correct[taken]).sum() <= allowed[taken.sum() - 1]]
    taken = accepted[min(shown)]
    assert np.unique(confidence)[3] < min(shown) < np.unique(confidence)[-10]
    assert (found.confidence, found.accepted, found.right) == (min(shown), taken.sum(), correct[taken].sum())
    assert f"rejects {120 - found.accepted} (" in str(found)
    assert (~found.rejects(confidence)).tolist() == taken.tolist()
    assert found.rejects(np.array([min(shown), np.nextafter(min(shown), 0)])).tolist() == [False, True]


@pytest.mark.parametrize(("count", "target", "enough"), [(44, 0.95, False), (45, 0.95, True), (1, 0.5, False)])
def test_few_images_prove_little(count, target, enough):
    confidence, correct = np.linspace(0.9, 1, count).astype("float32"), np.ones(count, bool)
    if enough:
        assert choose_threshold(confidence, correct, target).accepted == count
    else:
        words = f"^--reject {target}: no threshold .* on {count} of {count}; {45 if target == 0.95 else 4} accepted"
        with pytest.raises(UsageError, match=words):
            choose_threshold(confidence, correct, target)


def test_without_a_right_answer_nothing_is_promised():
    with pytest.raises(UsageError, match="right on 0 of"):
        choose_threshold(np.array([0.5, 0.7], "float32"), np.zeros(2, bool), 0.5)


def broken(count, target, share, draws=300):
    """Return how often a promise is given and broken where answers of confidence c are right with `share(c)`."""
    rng, number = np.random.default_rng(0), 0
    every = np.sort(rng.beta(3, 1.2, 30_000))
    above = share(every)[::-1].cumsum()[::-1] / np.arange(len(every), 0, -1)
    for _ in range(draws):
        confidence = np.sort(rng.beta(3, 1.2, count))
        try:
            found = choose_threshold(confidence, rng.random(count) < share(confidence), target)
        except UsageError:
            continue
        number += above[np.searchsorted(every, found.confidence)] < target
    return number / draws


@pytest.mark.parametrize(("count", "target"), [(100, 0.8), (400, 0.9)])
def test_a_promise_is_seldom_given_and_broken(count, target):
    calibrated = broken(count, target, lambda confidence: confidence)
    assert calibrated < 1 - SURE + 0.03  # beside two standard errors of 300 draws
    just_below = broken(count, target, lambda confidence: np.full(len(confidence), target - 1e-9))
    assert 0.05 < just_below < 1 - SURE + 0.04  # the worst: nowhere is it reached, nowhere by much not

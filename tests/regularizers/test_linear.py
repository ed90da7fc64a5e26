"""The linear classifiers of DELTA and Co-Tuning against an independent minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from regularizers import linear
from regularizers.attention import HEAD_DECAY, fit_head
from regularizers.linear import logistic_regression


def data(count, channels, classes, seed=0):
    """Return features like those behind a ReLU, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = rng.normal(size=(classes, channels))
    return np.maximum(means[labels] + 2 * rng.normal(size=(count, channels)), 0) / 2, labels


def objective(flat, x, labels, decay, intercept):
    """Return mean CE + decay / 2 ||W||^2 and its gradient, both for W [K, D] and b [K] in one vector."""
    count, classes = len(labels), labels.max() + 1
    weight = flat[: classes * x.shape[1]].reshape(classes, -1)
    bias = flat[weight.size :]
    logits = x @ weight.T + bias
    value = (logsumexp(logits, axis=1) - logits[np.arange(count), labels]).mean() + decay / 2 * (weight**2).sum()
    errors = (softmax(logits, axis=1) - np.eye(classes)[labels]) / count
    gradient = np.concatenate([(errors.T @ x + decay * weight).ravel(), errors.sum(axis=0) * intercept])
    return value, gradient


def least(x, labels, decay, intercept):
    start = np.zeros((labels.max() + 1) * (x.shape[1] + 1))
    tight = {"maxiter": 20_000, "maxfun": 50_000, "gtol": 1e-10, "ftol": 1e-16, "maxcor": 50}
    return minimize(objective, start, (x, labels, decay, intercept), "L-BFGS-B", jac=True, options=tight)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("decay", [1e-4, 1e-2])
@pytest.mark.parametrize(("count", "channels", "classes"), [(60, 128, 5), (90, 20, 3), (40, 12, 2)])
def test_the_classifier_is_at_the_minimum(count, channels, classes, decay, intercept, capsys):
    x, labels = data(count, channels, classes)
    weight, bias = logistic_regression(x, labels, decay, intercept)
    value, gradient = objective(np.concatenate([weight.ravel(), bias]), x, labels, decay, intercept)
    expected = least(x, labels, decay, intercept)
    assert value <= expected.fun + 1e-10
    assert np.abs(gradient).max() < 1e-7
    np.testing.assert_allclose(weight.ravel(), expected.x[: weight.size], atol=2e-3 * np.abs(weight).max())
    if not intercept:
        assert not bias.any()
    assert capsys.readouterr().err == ""


def test_the_classifier_of_delta_is_at_the_minimum():
    x, labels = data(60, 128, 5, seed=1)
    weight, bias = (tensor.numpy() for tensor in fit_head(x.astype("float32"), labels))
    flat = np.concatenate([weight.T.ravel(), bias])
    x = x.astype("float32").astype("float64")
    value, gradient = objective(flat, x, labels, HEAD_DECAY, True)
    assert value <= least(x, labels, HEAD_DECAY, True).fun + 1e-10
    assert np.abs(gradient).max() < 1e-7


def test_a_minimum_that_is_not_reached_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(linear, "GRADIENT", 0.0)
    logistic_regression(*data(20, 4, 3), decay=1e-4)
    assert capsys.readouterr().err.startswith("WARNING: a linear classifier is not at its minimum: its gradient is ")


def test_one_class_needs_no_classifier():
    weight, bias = logistic_regression(np.ones((3, 4)), np.zeros(3, "int64"), decay=1e-4)
    assert weight.shape == (1, 4)
    assert not weight.any()
    assert not bias.any()

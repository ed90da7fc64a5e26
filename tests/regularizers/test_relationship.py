"""Co-Tuning's class relationship, both ways, against NumPy, and with classes that have few images or none."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from regularizers import relationship
from regularizers.relationship import calibrate, direct, fit, hold_out, reverse, source_given_target
from regularizers.teacher import Frozen
from tests.regularizers.toys import toy_setup
from utils.errors import UsageError


def softmax(x, axis=1):
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


def opinions(labels, source_classes=6, seed=0):
    """Return probabilities [N, K_s] that tell the classes apart, mostly."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=2, size=(max(labels) + 1, source_classes))
    return softmax(centres[labels] + rng.normal(size=(len(labels), source_classes)))


def names(count):
    return [f"c{i}" for i in range(count)]


LABELS = np.arange(40) % 4


def test_probabilities_are_those_of_the_source_in_order():
    setup = toy_setup(count=70)
    found = relationship.source_probabilities(Frozen(setup.source), setup.train, 0.7)
    logits = np.concatenate([setup.source(images).logits.numpy() for images, _ in setup.train.batches(70)])
    np.testing.assert_allclose(found, softmax(0.7 * logits.astype("float64")), rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_direct_is_the_mean_over_each_class():
    probabilities = opinions(LABELS)
    matrix = direct(probabilities, LABELS, names(4))
    for label in range(4):
        np.testing.assert_allclose(matrix[label], probabilities[label::4].mean(axis=0))


def test_direct_of_decided_opinions_is_the_table_of_counts():
    decided = np.random.default_rng(1).integers(0, 6, 40)
    counts = np.zeros((4, 6))
    np.add.at(counts, (LABELS, decided), 1)
    np.testing.assert_allclose(direct(np.eye(6)[decided], LABELS, names(4)), counts / 10)


@pytest.mark.parametrize("kind", ["direct", "reverse"])
def test_rows_are_distributions_and_follow_their_class(kind):
    def related(labels):
        if kind == "direct":
            return direct(probabilities, labels, names(4))
        return reverse(probabilities, labels, names(4), np.random.default_rng(0))

    probabilities = opinions(LABELS)
    matrix = related(LABELS)
    assert matrix.shape == (4, 6)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-9)
    order = np.array([2, 0, 3, 1])  # class t is now called order[t]
    if kind == "direct":  # the hold-out goes through the classes in order
        np.testing.assert_allclose(related(order[LABELS])[order], matrix)


@pytest.mark.parametrize("kind", ["direct", "reverse"])
def test_a_class_without_images_looks_like_all_images(kind, capsys):
    labels = LABELS * 2  # of 9 classes only 0, 2, 4, 6
    probabilities = opinions(LABELS)
    if kind == "direct":
        matrix = direct(probabilities, labels, names(9))
        present = direct(probabilities, LABELS, names(4))
    else:
        matrix = reverse(probabilities, labels, names(9), np.random.default_rng(3))
        present = reverse(probabilities, LABELS, names(4), np.random.default_rng(3))
    assert capsys.readouterr().err == (
        "WARNING: no training image of c1, c3, c5, c7, c8: its source classes are those of all images\n"
    )
    assert matrix.shape == (9, 6)
    np.testing.assert_allclose(matrix[1::2], np.tile(probabilities.mean(axis=0), (4, 1)))
    np.testing.assert_allclose(matrix[[0, 2, 4, 6]], present)


def test_reverse_is_bayes_rule_on_the_official_regression():
    probabilities, rng = opinions(LABELS), np.random.default_rng(2)
    matrix = reverse(probabilities, LABELS, names(4), rng)
    held = hold_out(LABELS, np.random.default_rng(2))
    best, most = None, -1
    for strength in [f * 10.0**p for p in range(4, -5, -1) for f in (1, 0.3)][:-1]:
        fitted = LogisticRegression(C=strength, fit_intercept=False, max_iter=10_000, tol=1e-9)
        fitted.fit(probabilities[~held], LABELS[~held])
        right = (fitted.predict(probabilities[held]) == LABELS[held]).mean()
        if right > most:
            best, most = fitted.coef_, right
    scale = calibrate(probabilities[held] @ best.T, LABELS[held])
    target_given_source = softmax(scale * best, axis=0)
    joint = target_given_source * probabilities.mean(axis=0)
    np.testing.assert_allclose(matrix, joint / joint.sum(axis=1, keepdims=True), atol=1e-5)
    assert np.ptp(matrix, axis=0).max() > 0.1


def test_the_joint_distribution_sums_to_one():
    logits, marginal = np.random.default_rng(0).normal(size=(3, 5)), softmax(np.arange(5.0)[None])[0]
    joint = softmax(logits, axis=0) * marginal
    np.testing.assert_allclose(source_given_target(logits, marginal) * joint.sum(axis=1, keepdims=True), joint)
    assert joint.sum() == pytest.approx(1)


def test_bayes_rule_with_extreme_numbers():
    logits = np.array([[5000.0, 0], [0, 5000], [-9000, -9000]])  # the last class is nowhere likely
    matrix = source_given_target(logits, np.array([1.0, 0.0]))
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix[0], [1, 0])


def test_two_classes_have_two_rows():
    labels = np.arange(20) % 2
    probabilities = opinions(labels)
    coefficients = fit(probabilities, labels, hold_out(labels, np.random.default_rng(0)))
    assert coefficients.shape == (2, 6)
    predicted = (probabilities @ coefficients.T).argmax(axis=1)
    assert (predicted == labels).mean() > 0.7
    matrix = reverse(probabilities, labels, names(2), np.random.default_rng(0))
    assert (matrix.argmax(axis=0) == coefficients.argmax(axis=0)).mean() > 0.5
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_the_scale_has_the_least_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    logits[np.arange(50), labels] += 0.8

    def loss(log_scale):
        return -np.log(softmax(np.exp(log_scale[0]) * logits)[np.arange(50), labels]).mean()

    assert calibrate(logits, labels) == pytest.approx(np.exp(minimize(loss, [0.0]).x[0]), rel=1e-3)


def test_the_scale_is_finite_when_everything_is_right():
    assert 1 < calibrate(np.eye(3), np.arange(3)) <= np.exp(7)


def test_a_fifth_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2, 3], [1, 2, 10, 26])
    held = hold_out(labels, np.random.default_rng(0))
    assert np.bincount(labels[held], minlength=4).tolist() == [0, 1, 2, 5]
    np.testing.assert_array_equal(held, hold_out(labels, np.random.default_rng(0)))
    assert (held != hold_out(labels, np.random.default_rng(1))).any()


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 2]])
def test_reverse_needs_two_classes_and_something_to_hold_out(labels):
    with pytest.raises(UsageError, match="--relationship reverse: .* accepted here is direct"):
        reverse(opinions(labels), np.array(labels), names(3), np.random.default_rng(0))

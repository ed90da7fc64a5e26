"""Co-Tuning's class relationship: which source classes an image of each target class looks like, R = P(s | t).

With p = softmax(temperature * z_s), [N, K_s], the source's opinion of the clean training images,

    direct    R[t] = mean of p over the images of class t
    reverse   R[t, s] ∝ P(t | s) m[s],   P(t | s) = softmax_t(scale * coef[t, s]),   m = mean of p over all images

coef is a logistic regression of the target class on p, without intercept. Its strength C is the one that is right most
often on held-out images, on which scale is then the one of least cross-entropy.

Differs from the official code: there the held-out images are a folder of their own; here they are a fifth of every
class, at least one where it has two. scale is looked for within [e^-7, e^7]. A class without images gets m.
"""

from __future__ import annotations

import numpy as np

from datasets.loader import Dataset
from datasets.subsets import by_class
from regularizers.linear import logistic_regression, of_clean_images
from regularizers.teacher import Frozen
from utils.bars import progress_bar
from utils.errors import UsageError, names, warn

STRENGTHS = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3e0, 1e0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)


def source_probabilities(source: Frozen, train: Dataset, temperature: float) -> np.ndarray:
    """Return softmax(temperature * logits) of the clean images in order, float64 [N, K_s]."""
    from scipy.special import softmax  # slow to import, and needed for Co-Tuning alone

    return softmax(temperature * of_clean_images(source, train, "logits"), axis=1)


def direct(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """Return the mean of `probabilities` [N, K_s] over each class of `labels` [N], float64 [K, K_s]."""
    matrix = marginal_rows(probabilities, labels, classes)
    for label, rows in by_class(labels).items():
        matrix[label] = probabilities[rows].mean(axis=0)
    return matrix


def reverse(probabilities: np.ndarray, labels: np.ndarray, classes: list[str], rng: np.random.Generator) -> np.ndarray:
    """Return P(s | t) by Bayes' rule from a calibrated logistic regression of t, float64 [K, K_s].

    Args:
        probabilities: [N, K_s].
        labels: int64 [N], positions in `classes`.
        classes: the names of the K classes.
        rng: chooses the held-out images.

    Raises:
        UsageError: there are not two classes with images, or none with two.
    """
    present, positions = np.unique(labels, return_inverse=True)
    held = hold_out(positions, rng)
    if len(present) < 2 or not held.any():
        raise UsageError(
            "--relationship reverse: needs images of two classes and two images of one; accepted here is direct"
        )
    coefficients = fit(probabilities, positions, held)
    scale = calibrate(probabilities[held] @ coefficients.T, positions[held])
    matrix = marginal_rows(probabilities, labels, classes)
    matrix[present] = source_given_target(scale * coefficients, probabilities.mean(axis=0))
    return matrix


def marginal_rows(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """Return the mean of `probabilities` as the row of every class, and warn of the classes that have no other."""
    present = {*labels.tolist()}
    absent = [name for label, name in enumerate(classes) if label not in present]
    if absent:
        warn(f"no training image of {names(absent)}: its source classes are those of all images")
    return np.tile(probabilities.mean(axis=0), (len(classes), 1))


def hold_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which images are held out, bool [N]: a fifth of each class, at least one, but never all."""
    held = np.zeros(len(labels), dtype=bool)
    for rows in by_class(labels).values():
        own = rng.permutation(rows)
        if len(own) > 1:
            held[own[: max(1, round(len(own) / 5))]] = True
    return held


def fit(probabilities: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Fit logistic regressions of every strength on the images not `held`; return the best one's matrix [K, K_s].

    `labels` are from 0 to K - 1, none without an image. Of equally good ones the weakest regularisation is taken.
    """
    best, most = None, -1.0
    for strength in progress_bar(STRENGTHS, desc="class relationship", unit="fit"):
        decay = 1 / (strength * np.sum(~held))
        weight, _ = logistic_regression(probabilities[~held], labels[~held], decay, fit_intercept=False)
        right = np.mean((probabilities[held] @ weight.T).argmax(axis=1) == labels[held])
        if right > most:
            best, most = weight, right
    return best


def calibrate(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the scale above 0 for which softmax(scale * logits) has the least cross-entropy against `labels`."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def cross_entropy(log_scale: float) -> float:
        return -log_softmax(np.exp(log_scale) * logits, axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-7, 7), method="bounded").x))


def source_given_target(logits: np.ndarray, marginal: np.ndarray) -> np.ndarray:
    """Return P(s | t) [K, K_s] from P(t | s) = softmax over t of `logits` [K, K_s] and P(s) = `marginal` [K_s]."""
    from scipy.special import log_softmax, softmax

    log_marginal = np.log(np.maximum(marginal, np.finfo(float).tiny))
    return softmax(log_softmax(logits, axis=0) + log_marginal, axis=1)

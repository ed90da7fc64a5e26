"""Linear classifiers of what the frozen source says about the clean training images: DELTA and Co-Tuning fit them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import paddle

from datasets.loader import Dataset
from models.outputs import Outputs
from utils.bars import progress_bar
from utils.errors import warn

BATCH = 64  # images in a forward pass
GRADIENT = 1e-6  # below which the largest entry of the gradient counts as zero


def of_clean_images(source: Callable[[paddle.Tensor], Outputs], train: Dataset, name: str) -> np.ndarray:
    """Return the output `name` ("features", "logits") of `source` for every image in order, float64 [N, ...]."""
    rows = []
    with progress_bar(total=len(train.labels), desc=f"source {name}", unit="image") as bar:
        for images, index in train.batches(BATCH):
            rows.append(getattr(source(images), name).numpy())
            bar.update(len(index))
    return np.concatenate(rows).astype("float64")


def logistic_regression(
    x: np.ndarray, labels: np.ndarray, decay: float, fit_intercept: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear classifier of `labels` on `x`, to the minimum; warn if that is not reached.

        minimise mean CE(x @ weight.T + bias, labels) + decay / 2 ||weight||_F^2

    Args:
        x: [N, D]; computed in float64.
        labels: int64 [N], from 0 to K - 1, none without an image.
        decay: above 0.
        fit_intercept: whether there is a bias.

    Returns:
        The weight [K, D] and the bias [K], of which the logits are x @ weight.T + bias.
    """
    from scipy.special import softmax  # both slower to import than paddle: only where a fit is made
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, count = x.astype("float64"), labels.max() + 1
    if count == 1:
        return np.zeros((1, x.shape[1])), np.zeros(1)
    # of two classes scikit-learn has the difference alone, whose square is twice that of both halves
    strength = (2 if count == 2 else 1) / (decay * len(labels))
    # lbfgs, the default, stops where the loss hardly falls: at these strengths far from the minimum
    regression = LogisticRegression(
        C=strength, solver="newton-cg", tol=1e-8, max_iter=5000, fit_intercept=fit_intercept
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the gradient says it
        warnings.simplefilter("ignore", RuntimeWarning)  # of a line search that finds nothing better
        regression.fit(x, labels)
    weight, bias = regression.coef_, np.broadcast_to(regression.intercept_, len(regression.coef_))
    if count == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    errors = (softmax(x @ weight.T + bias, axis=1) - np.eye(count)[labels]) / len(labels)
    gradient = np.abs(errors.T @ x + decay * weight).max()
    if fit_intercept:
        gradient = max(gradient, np.abs(errors.sum(axis=0)).max())
    if not gradient < GRADIENT:
        warn(f"a linear classifier is not at its minimum: its gradient is {gradient:.1e}, accepted is {GRADIENT}")
    return weight, bias

"""Linear classifiers of what the frozen source says about the clean training images: DELTA and Co-Tuning fit them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
from tqdm import tqdm

from datasets.loader import Dataset
from models.outputs import Outputs

BATCH = 64  # images in a forward pass


def of_clean_images(source: Callable[[paddle.Tensor], Outputs], train: Dataset, name: str) -> np.ndarray:
    """Return the output `name` ("features", "logits") of `source` for every image in order, float64 [N, ...]."""
    rows = []
    with tqdm(total=len(train.labels), desc=f"source {name}", unit="image", disable=None, leave=False) as bar:
        for images, index in train.batches(BATCH):
            rows.append(getattr(source(images), name).numpy())
            bar.update(len(index))
    return np.concatenate(rows).astype("float64")


def logistic_regression(x: np.ndarray, labels: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Fit scikit-learn's `LogisticRegression(**options)` of `labels` on `x` [N, D].

    Args:
        x: [N, D]; computed in float64.
        labels: int64 [N], from 0 to K - 1, none without an image.

    Returns:
        The weight [K, D] and the bias [K], of which the logits are x @ weight.T + bias.
    """
    from sklearn.exceptions import ConvergenceWarning  # slower to import than paddle: only where a fit is made
    from sklearn.linear_model import LogisticRegression

    if labels.max() == 0:
        return np.zeros((1, x.shape[1])), np.zeros(1)
    regression = LogisticRegression(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the minimum is enough
        regression.fit(x.astype("float64"), labels)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes scikit-learn scores the second one only
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return weight, bias

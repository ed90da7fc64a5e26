"""Weights of the classes in the criterion, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from regularizers.losses import cross_entropy
from training.criterion import Criterion
from training.options import Options
from utils.errors import UsageError

SMALL = {"train_dir": "x", "model_arch": "resnet8", "pretrained": "none", "regularizer": "l2"}
COUNTS = np.array([1, 6, 0, 3, 2])  # of 12 images of 4 classes: weights of 3, 0.5, 0, 1 and 1.5
WEIGHTS = [3, 0.5, 0, 1, 1.5]


def weighted(logits, targets, weights, smoothing=0.0):
    """Return the loss of NumPy arrays, by its definition in float64."""
    total = 0.0
    for row, target in zip(logits.astype("float64"), targets.astype("float64")):
        log_sum = np.log(np.exp(row - row.max()).sum()) + row.max()
        smoothed = [(1 - smoothing) * share + smoothing / len(row) for share in target]
        loss = -sum(share * (z - log_sum) for share, z in zip(smoothed, row))
        total += sum(w * share for w, share in zip(weights, target)) * loss
    return total / len(logits)


def some(kind, seed=0):
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(COUNTS)
    targets = np.eye(5)[rng.choice(present, size=8)]
    if kind == "mixed":
        targets = 0.3 * targets + 0.7 * targets[::-1]
    if kind == "soft":
        targets[:, present] = rng.dirichlet(np.ones(4), 8)
    return 3 * rng.normal(size=(8, 5)).astype("float32"), targets.astype("float32")


def criterion(**given):
    return Criterion.of(Options.of({**SMALL, **given}), COUNTS)


@pytest.mark.parametrize("kind", ["labels", "mixed", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_images_loss_counts_by_its_targets(kind, smoothing):
    logits, targets = some(kind)
    found = criterion(balance="loss", label_smoothing=smoothing)(paddle.to_tensor(logits), paddle.to_tensor(targets))
    assert found.item() == pytest.approx(weighted(logits, targets, WEIGHTS, smoothing), rel=1e-5)


def test_the_gradient_is_weighted_too():
    logits, targets = some("mixed")
    z = paddle.to_tensor(logits, stop_gradient=False)
    criterion(balance="loss")(z, paddle.to_tensor(targets)).backward()
    p = np.exp(logits.astype("float64"))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), (targets @ WEIGHTS)[:, None] * (p - targets) / 8, atol=1e-6)


def test_micro_batches_add_up_to_the_batch():
    logits, targets = map(paddle.to_tensor, some("labels"))
    loss = criterion(balance="loss")
    halves = [loss(logits[rows], targets[rows]).item() for rows in (slice(0, 4), slice(4, 8))]
    assert np.mean(halves) == pytest.approx(loss(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("balance", ["none", "draws"])
def test_otherwise_it_is_the_cross_entropy_to_the_bit(balance):
    logits, targets = map(paddle.to_tensor, some("mixed"))
    assert criterion(balance=balance)(logits, targets).item() == cross_entropy(logits, targets).item()


def test_equal_classes_weigh_1():
    logits, targets = map(paddle.to_tensor, some("labels"))
    equal = Criterion.of(Options.of({**SMALL, "balance": "loss"}), np.full(5, 7))
    assert equal(logits, targets).item() == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-6)


def test_a_method_with_its_own_cross_entropy_refuses_it(tmp_path):
    (tmp_path / "weights.pdparams").touch()
    given = {**SMALL, "pretrained": str(tmp_path / "weights.pdparams"), "regularizer": "regsl", "self_label": True}
    with pytest.raises(UsageError, match="--balance loss: accepted are none and draws: --regularizer regsl has its"):
        Options.of({**given, "balance": "loss"})
    assert Options.of({**given, "balance": "draws"}).balance == "draws"
    assert Options.of({**given, "balance": "loss", "self_label": False}).balance == "loss"

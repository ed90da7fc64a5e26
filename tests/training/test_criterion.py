"""The criterion against NumPy in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from regularizers import create
from regularizers.losses import cross_entropy
from tests.regularizers.toys import arrays, optimizer_of, same, toy_batch, toy_setup
from training.criterion import Criterion
from training.meter import Meter
from training.options import Options
from training.step import train_step
from utils.errors import UsageError

SMALL = {"train_dir": "x", "model_arch": "resnet8", "pretrained": "none", "regularizer": "l2"}


def smoothed(logits, targets, share):
    """Return the loss of NumPy arrays, by its definition in float64."""
    logits, total = logits.astype("float64"), 0.0
    for row, target in zip(logits, targets.astype("float64")):
        log_sum = np.log(np.exp(row - row.max()).sum()) + row.max()
        for k, z in enumerate(row):
            total -= ((1 - share) * target[k] + share / len(row)) * (z - log_sum)
    return total / len(logits)


def some(kind, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.eye(5)[rng.integers(5, size=7)] if kind == "labels" else rng.dirichlet(np.ones(5), 7)
    return 3 * rng.normal(size=(7, 5)).astype("float32"), targets.astype("float32")


@pytest.mark.parametrize("kind", ["labels", "mixed"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_the_loss_is_the_equation(kind, share):
    logits, targets = some(kind)
    found = Criterion(share)(paddle.to_tensor(logits), paddle.to_tensor(targets)).item()
    assert found == pytest.approx(smoothed(logits, targets, share), rel=1e-6)


def test_the_gradient_is_softmax_minus_the_smoothed_targets():
    logits, targets = some("mixed")
    z = paddle.to_tensor(logits, stop_gradient=False)
    Criterion(0.2)(z, paddle.to_tensor(targets)).backward()
    p = np.exp(logits.astype("float64"))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), (p - 0.8 * targets - 0.2 / 5) / 7, atol=1e-7)


def test_one_class_cannot_be_smoothed_away():
    assert Criterion(0.3)(paddle.to_tensor([[2.0]]), paddle.to_tensor([[1.0]])).item() == 0


def test_without_options_it_is_the_cross_entropy_to_the_bit():
    logits, targets = map(paddle.to_tensor, some("mixed"))
    for criterion in (Criterion(), Criterion.of(Options.of(SMALL), np.array([3, 4]))):
        assert criterion(logits, targets).item() == cross_entropy(logits, targets).item()


def test_a_step_minimises_it():
    def after(*criterion):
        setup = toy_setup()
        method = create("l2")
        meter = Meter()
        train_step(setup.model, method, optimizer_of(setup, method), meter, toy_batch(setup), 0, *criterion)
        return arrays(setup.model), meter.state()[0]["ce"]

    (plain, ce), (default, same_ce), (other, other_ce) = after(), after(Criterion()), after(Criterion(0.3))
    assert same(plain, default)
    assert ce == same_ce
    assert not same(plain, other)
    assert ce != other_ce


def test_a_run_reads_it_from_its_options():
    criterion = Criterion.of(Options.of({**SMALL, "label_smoothing": 0.25}), np.array([3, 4]))
    logits, targets = some("labels")
    found = criterion(paddle.to_tensor(logits), paddle.to_tensor(targets)).item()
    assert found == pytest.approx(smoothed(logits, targets, 0.25), rel=1e-6)


def test_a_method_with_its_own_cross_entropy_refuses_it(tmp_path):
    (tmp_path / "weights.pdparams").touch()
    given = {**SMALL, "pretrained": str(tmp_path / "weights.pdparams"), "regularizer": "regsl", "self_label": True}
    assert Options.of(given).label_smoothing == 0
    with pytest.raises(UsageError, match="--label_smoothing 0.1: accepted is 0: --regularizer regsl has its own"):
        Options.of({**given, "label_smoothing": 0.1})
    assert Options.of({**given, "label_smoothing": 0.1, "self_label": False}).label_smoothing == 0.1


@pytest.mark.parametrize("text", ["1", "1.5", "-0.1", "nan", "x"])
def test_shares_from_0_to_below_1_are_accepted(text):
    with pytest.raises(UsageError, match="--label_smoothing: .*: accepted is a number from 0 to below 1"):
        Options.from_flags({"label_smoothing": text})
    assert Options.from_flags({**SMALL, "label_smoothing": "0.999"}).label_smoothing == 0.999

"""The rate of each update against a function that shares no code with it, in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from training.options import Options
from training.schedule import Schedule
from utils.errors import UsageError

SMALL = {"train_dir": "x", "model_arch": "resnet8", "pretrained": "none", "regularizer": "l2"}


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.get_lr())
        assert schedule() == found[-1]
        schedule.step()
    return found


def expected(kind, lr, steps, warmup, drop):
    t = np.arange(steps, dtype="float64")
    rising = np.interp(t, [-1, warmup], [0.0, 1.0])  # a line through 0 before the first update
    if kind == "step":
        return lr * rising * np.where(t < drop, 1.0, 0.1)
    angle = np.clip(t - warmup, 0, None) / (steps - warmup)
    return lr * rising * np.cos(np.pi * angle / 2) ** 2  # half-angle form


@pytest.mark.parametrize("kind", ["step", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 1), (7, 0), (7, 1), (7, 6), (300, 20), (1000, 999)])
def test_every_rate_is_the_formula(kind, steps, warmup):
    drop = max(1, steps * 2 // 3)
    options = {**SMALL, "schedule": kind, "max_iters": steps, "warmup": warmup, "lr": 0.03}
    if kind == "step":
        options["lr_drop"] = drop
    found = rates(Schedule.of(Options.of(options)), steps)
    np.testing.assert_allclose(found, expected(kind, 0.03, steps, warmup, drop), rtol=1e-12)


def test_the_edges_are_exact():
    cosine = Schedule(0.07, total=100, warmup=9)
    found = rates(cosine, 100)
    assert found[0] == 0.07 * (1 / 10)
    assert found[8] == 0.07 * (9 / 10)
    assert found[9] == 0.07
    assert found[10] < 0.07
    assert 0 < found[99] < 0.07 * 1e-3
    assert cosine.get_lr() == 0  # after the last update
    assert Schedule(0.07, total=1).get_lr() == 0.07


@pytest.mark.parametrize("lr", [0.01, 0.3, 1e-7])
def test_the_drop_is_the_frameworks(lr):
    theirs = paddle.optimizer.lr.PiecewiseDecay(boundaries=[5], values=[lr, lr * 0.1])
    ours = Schedule(lr, 5)
    for _ in range(9):
        assert ours() == theirs()
        assert ours.state_dict() == theirs.state_dict()
        ours.step()
        theirs.step()


@pytest.mark.parametrize(
    "arguments", [{"drop": 7}, {"total": 11}, {"total": 11, "warmup": 4}, {"drop": 3, "warmup": 4}]
)
def test_it_goes_on_from_its_state(arguments):
    whole, half, other = (Schedule(0.1, **arguments) for _ in range(3))
    through = rates(whole, 10)
    rates(half, 4)
    other.set_state_dict(half.state_dict())
    assert rates(other, 6) == through[4:]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "cosine", "lr_drop": 5}, "--schedule cosine and --lr_drop: give one of them"),
        ({"warmup": 9, "max_iters": 9}, "--warmup 9: accepted are fewer updates than --max_iters 9"),
    ],
)
def test_contradictions_are_refused(given, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        Options.of({**SMALL, **given})

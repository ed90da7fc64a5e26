from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

import models
from models.heads import reset_head
from regularizers.losses import cross_entropy
from regularizers.rifle import RIFLE
from training.optimizer import Optimizer
from training.schedule import Schedule
from utils.rng import generator


def prepared(total_steps, reinits, seed=11, head_init="torch"):
    method = RIFLE(reinits=reinits)
    assert method.requirements().steps[0] <= total_steps
    method.prepare(SimpleNamespace(seed=seed, head_init=head_init, total_steps=total_steps))
    return method


def moments(total_steps, reinits):
    """Return after how many updates the head is drawn anew."""
    model, method, found = SimpleNamespace(head=nn.Linear(2, 2)), prepared(total_steps, reinits), []
    before = model.head.weight.numpy()
    for step in range(total_steps):
        method.after_step(model, step)
        after = model.head.weight.numpy()
        if (after != before).any():
            found.append(step + 1)
        before = after
    return found


@pytest.mark.parametrize(
    "total_steps, reinits, expected",
    [
        (9000, 1, []),
        (9000, 2, [4500]),
        (9000, 4, [2250, 4500, 6750]),
        (40, 3, [13, 26, 39]),
        (10, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (1, 1, []),
        (5, 6, [1, 2, 3, 4]),
        (1, 2, []),
    ],
)
def test_the_moments_are_those_of_the_authors(total_steps, reinits, expected):
    assert moments(total_steps, reinits) == expected


@pytest.mark.parametrize("reinits", [0, -2])
def test_fewer_than_one_is_refused(reinits):
    with pytest.raises(ValueError, match=f"--reinits {reinits}"):
        RIFLE(reinits=reinits)


def test_the_bounds_are_those_of_the_first_draw():
    model, method = models.build("resnet8", 600), prepared(4, 2)
    before = model.head.bias.numpy()
    method.after_step(model, 1)
    weight, bias = model.head.weight.numpy(), model.head.bias.numpy()
    assert list(weight.shape) == [64, 600]
    for drawn in (weight, bias):
        assert np.abs(drawn).max() <= 1 / np.sqrt(64)
        assert np.abs(drawn).max() > 0.98 / np.sqrt(64)
    assert weight.std() == pytest.approx(1 / np.sqrt(3 * 64), rel=0.02)
    assert bias.std() == pytest.approx(1 / np.sqrt(3 * 64), rel=0.1)
    assert (bias != before).all()


@pytest.mark.parametrize("init", ["torch", "paddle"])
def test_the_draw_is_the_heads_own_and_depends_on_seed_and_update(init):
    model, expected = SimpleNamespace(head=nn.Linear(6, 4)), nn.Linear(6, 4)
    prepared(8, 4, seed=11, head_init=init).after_step(model, 3)
    first = model.head.weight.numpy()
    reset_head(expected, generator(11, "head", 4), init)
    np.testing.assert_array_equal(first, expected.weight.numpy())
    np.testing.assert_array_equal(model.head.bias.numpy(), expected.bias.numpy())
    prepared(8, 4, seed=11, head_init=init).after_step(model, 5)
    assert (model.head.weight.numpy() != first).any()
    prepared(8, 4, seed=12, head_init=init).after_step(model, 3)
    assert (model.head.weight.numpy() != first).any()
    prepared(8, 4, seed=11, head_init=init).after_step(model, 3)
    np.testing.assert_array_equal(model.head.weight.numpy(), first)


@pytest.mark.parametrize("init", ["zero", "probe"])
def test_a_head_that_starts_at_zero_starts_there_again(init):
    model = SimpleNamespace(head=nn.Linear(6, 4))
    prepared(8, 4, head_init=init).after_step(model, 2)
    assert model.head.weight.numpy().any()  # no moment
    prepared(8, 4, head_init=init).after_step(model, 3)
    assert not model.head.weight.numpy().any()
    assert not model.head.bias.numpy().any()


class Run:
    """Six updates of a small network, which can be left after any of them and taken up again."""

    def __init__(self, saved=None):
        paddle.seed(0)
        self.model, self.method, self.step = models.build("resnet8", 3), prepared(6, 3), 0
        self.optimizer = Optimizer(
            self.model, self.method, Schedule(0.05, 5), wd=1e-4, cls_lambda=0.0, head_lr_mult=1.0
        )
        if saved:
            self.step, weights, slots, schedule = saved
            self.model.set_state_dict(weights)
            self.optimizer.set_state_dict(slots, schedule)

    def update(self):
        rng = np.random.default_rng(self.step)
        images = paddle.to_tensor(rng.standard_normal((4, 3, 8, 8)).astype("float32"))
        targets = paddle.to_tensor(np.eye(3, dtype="float32")[rng.integers(3, size=4)])
        cross_entropy(self.model(images).logits, targets).backward()
        self.optimizer.step()

    def advance(self, until):
        while self.step < until:
            self.update()
            self.method.after_step(self.model, self.step)
            self.step += 1
        return self

    def weights(self):
        return {name: value.numpy() for name, value in self.model.state_dict().items()}

    def slots(self):
        return {name: value.numpy() for name, value in self.optimizer.state_dict().items()}

    def saved(self):
        return self.step, self.weights(), self.slots(), self.optimizer.schedule.state_dict()


def test_only_the_head_is_redrawn_and_only_at_the_moments():
    run, redrawn = Run(), []
    for step in range(6):
        run.step = step
        run.update()
        weights, slots = run.weights(), run.slots()
        run.method.after_step(run.model, step)
        changed = {name for name, value in run.weights().items() if (value != weights[name]).any()}
        if changed:
            redrawn.append(step + 1)
            assert changed == {"fc.weight", "fc.bias"}
        for name, value in run.slots().items():
            np.testing.assert_array_equal(value, slots[name], err_msg=name)
        assert "fc.weight/velocity_0" in slots
    assert redrawn == [2, 4]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_taken_up_again_before_or_after_a_moment_ends_alike(stop):
    whole = Run().advance(6).weights()
    halves = Run(Run().advance(stop).saved()).advance(6).weights()
    for name, value in halves.items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_it_is_a_head_change_and_nothing_else():
    method = RIFLE()
    assert method.reinits == 2
    assert method.parameters() == []
    assert method.requirements().backbone != "regularized"
    assert method.loss(None, None, None, 0) == {}

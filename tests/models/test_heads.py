import math

import numpy as np
import paddle
import pytest
from paddle import nn

from models.heads import reset_head
from regularizers.losses import cross_entropy


@pytest.mark.parametrize(("init", "bound"), [("paddle", math.sqrt(6 / 2248)), ("torch", 1 / math.sqrt(2048))])
def test_bounds_and_deviation(init, bound):
    head = nn.Linear(2048, 200)
    reset_head(head, np.random.default_rng(0), init)
    weight, bias = head.weight.numpy(), head.bias.numpy()
    assert np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    if init == "paddle":
        assert np.all(bias == 0)
    else:
        assert 0 < np.abs(bias).max() <= bound


def test_a_draw_is_repeatable():
    first, second = nn.Linear(8, 4), nn.Linear(8, 4)
    for head in (first, second):
        reset_head(head, np.random.default_rng(3), "torch")
    assert np.array_equal(first.weight.numpy(), second.weight.numpy())
    assert np.array_equal(first.bias.numpy(), second.bias.numpy())


def test_a_head_of_zeros_knows_nothing():
    head, rng = nn.Linear(8, 5), np.random.default_rng(3)
    reset_head(head, rng, "torch")
    reset_head(head, rng, "zero")
    logits = head(paddle.randn([4, 8]))
    assert not head.weight.numpy().any()
    assert not head.bias.numpy().any()
    targets = paddle.to_tensor(np.random.default_rng(0).dirichlet(np.ones(5), 4).astype("float32"))
    assert cross_entropy(logits, targets).item() == pytest.approx(math.log(5), rel=1e-6)

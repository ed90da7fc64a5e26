import math

import numpy as np
import pytest
from paddle import nn

from models.heads import reset_head


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

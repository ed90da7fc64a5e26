import numpy as np
import paddle
import pytest

from models import build
from models.parameters import trainable_parameters
from regularizers import create
from tests.regularizers.toys import arrays, toy_setup
from training.optimizer import Optimizer
from utils.errors import WeightsError

RATES = {"lr": 0.1, "wd": 0.01, "cls_lambda": 0.03, "head_lr_mult": 5.0, "lr_drop": 2}


def made(method="l2", **changes):
    setup = toy_setup()
    regularizer = create(method, **({"clean_tail": 0} if method == "smile" else {}))
    regularizer.prepare(setup)
    return setup.model, Optimizer(setup.model, regularizer, **{**RATES, **changes})


def test_statistics_and_frozen_tensors_are_not_trained():
    model = build("resnet8", 4)
    names = set(trainable_parameters(model))
    assert names == {name for name in model.state_dict() if not name.endswith(("_mean", "_variance"))}
    model.conv1.weight.stop_gradient = True
    assert set(trainable_parameters(model)) == names - {"conv1.weight"}


def test_three_updates_equal_the_recursion():
    model, optimizer = made()
    before = arrays(model)
    rng = np.random.default_rng(0)
    gradients = [{name: rng.normal(size=p.shape) for name, p in optimizer.parameters.items()} for _ in range(3)]
    for gradient in gradients:
        terms = [
            (p * paddle.to_tensor(gradient[name].astype("float32"))).sum() for name, p in optimizer.parameters.items()
        ]
        sum(terms).backward()
        optimizer.step()
    for name in optimizer.parameters:
        p, v = before[name].astype("float64"), 0.0
        head = name.startswith("fc.")
        for step, gradient in enumerate(gradients):
            lr = (0.1 if step < 2 else 0.01) * (5 if head else 1)
            g = gradient[name] + (0.04 if head else 0.01) * p
            v = 0.9 * v + g
            p = p - lr * (g + 0.9 * v)
        np.testing.assert_allclose(model.state_dict()[name].numpy(), p, rtol=1e-4, atol=1e-5)
    after = arrays(model)
    assert all(np.array_equal(after[n], before[n]) for n in before if n.endswith(("_mean", "_variance")))


def test_what_a_method_trains_is_a_head():
    _, optimizer = made("smile")
    assert {name for name in optimizer.parameters if name.startswith("regularizer.")} == {
        "regularizer.aux_head.weight",
        "regularizer.aux_head.bias",
    }


@pytest.mark.parametrize(("drop", "first_low"), [(6666, 6666), (6000, 6000)])
def test_the_rate_drops_at_the_given_update(drop, first_low):
    _, optimizer = made(lr=0.01, lr_drop=drop)
    optimizer.schedule.step(first_low - 1)
    assert optimizer.schedule.get_lr() == 0.01
    optimizer.schedule.step(first_low)
    assert optimizer.schedule.get_lr() == pytest.approx(0.001)


def test_state_moves_to_a_network_with_other_internal_names():
    model, optimizer = made("smile")
    model(paddle.ones([2, 3, 16, 16])).logits.sum().backward()  # the auxiliary head gets no gradient
    optimizer.step()
    state, schedule = optimizer.state_dict(), optimizer.schedule.state_dict()
    assert "layer1.0.conv1.weight/velocity_0" in state
    build("resnet8", 3)  # moves the counter behind the names
    other, second = made("smile")
    other.set_state_dict(model.state_dict())
    second.set_state_dict({name: value.numpy() for name, value in state.items()}, schedule)
    for network, own in ((model, optimizer), (other, second)):
        (network(paddle.ones([2, 3, 16, 16])).logits ** 2).sum().backward()
        own.step()
    first, last = arrays(model), arrays(other)
    assert all(np.array_equal(first[name], last[name]) for name in first)
    assert second.last_lr == optimizer.last_lr


def test_state_of_another_network_is_refused():
    _, optimizer = made()
    with pytest.raises(WeightsError, match="nonsense"):
        optimizer.set_state_dict({"nonsense/velocity_0": np.zeros(3)}, {})

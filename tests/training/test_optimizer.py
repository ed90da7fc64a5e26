from dataclasses import fields

import numpy as np
import paddle
import pytest

from models import build
from models.parameters import freeze_statistics, trainable_parameters
from regularizers import create
from tests.regularizers.toys import arrays, toy_setup
from training.optimizer import SLOTS, Optimizer, clip
from training.options import Options
from training.schedule import Schedule
from utils.distributed import SINGLE_PROCESS
from utils.errors import WeightsError

RATES = {"wd": 0.01, "cls_lambda": 0.03, "head_lr_mult": 5.0}


def made(method="l2", lr=0.1, lr_drop=2, **changes):
    setup = toy_setup()
    regularizer = create(method, **({"clean_tail": 0} if method == "smile" else {}))
    regularizer.prepare(setup)
    return setup.model, Optimizer(setup.model, regularizer, Schedule(lr, lr_drop), **{**RATES, **changes})


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


def float64(layer, optimizer):
    """Return what is trained, in float64, by the optimizer's names."""
    return {name: p.numpy().astype("float64") for name, p in optimizer.parameters.items()}


def given_gradients(optimizer, count, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [{name: scale * rng.normal(size=p.shape) for name, p in optimizer.parameters.items()} for _ in range(count)]


def update(optimizer, gradient, parts=1):
    """Make an update with these gradients, given in equal parts."""
    for _ in range(parts):
        terms = [
            (p * paddle.to_tensor(gradient[name].astype("float32"))).sum() for name, p in optimizer.parameters.items()
        ]
        optimizer.backward(sum(terms))
    optimizer.sync_gradients()
    optimizer.step()


DEPTHS = {"conv1": 4, "bn1": 4, "layer1": 3, "layer2": 2, "layer3": 1, "fc": 0}  # of a ResNet-8: one block a stage


@pytest.mark.parametrize("layer_decay", [1.0, 0.6])
def test_adamw_is_the_recursion(layer_decay):
    model, optimizer = made(kind="adamw", lr=0.02, layer_decay=layer_decay)
    start, found = float64(model, optimizer), given_gradients(optimizer, 4)
    for gradient in found:
        update(optimizer, gradient)
    for name, p in start.items():
        part = name.split(".")[0]
        m, s = np.zeros_like(p), np.zeros_like(p)
        decay = 0.04 if part == "fc" else 0.01
        ratio = 5.0 if part == "fc" else layer_decay ** DEPTHS[part]
        for t, gradient in enumerate(found, 1):
            rate = ratio * (0.02 if t <= 2 else 0.002)
            m = 0.9 * m + 0.1 * gradient[name]
            s = 0.999 * s + 0.001 * gradient[name] ** 2
            p = p - rate * decay * p - rate * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(model.state_dict()[name].numpy(), p, rtol=1e-4, atol=2e-6, err_msg=name)


def test_decoupled_decay_does_not_enter_the_moments():
    _, light = made(kind="adamw", wd=0.0, cls_lambda=0.0)
    _, heavy = made(kind="adamw", wd=0.5)
    for optimizer in (light, heavy):
        update(optimizer, given_gradients(optimizer, 1)[0])
    first, second = light.state_dict(), heavy.state_dict()
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


def test_sgd_has_layerwise_rates_too():
    model, optimizer = made(layer_decay=0.5, wd=0.0, cls_lambda=0.0, head_lr_mult=3.0)
    start, gradient = float64(model, optimizer), given_gradients(optimizer, 1)[0]
    update(optimizer, gradient)
    for name, p in start.items():
        part = name.split(".")[0]
        ratio = 3.0 if part == "fc" else 0.5 ** DEPTHS[part]
        moved = p - model.state_dict()[name].numpy()
        np.testing.assert_allclose(moved, 0.1 * ratio * 1.9 * gradient[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_one_rate_for_all_layers_is_one_group():
    _, optimizer = made("smile")
    assert len(optimizer.rule._param_groups) == 2


def test_both_moments_move_to_a_network_with_other_internal_names():
    model, optimizer = made("smile", kind="adamw", layer_decay=0.7)
    model(paddle.ones([2, 3, 16, 16])).logits.sum().backward()  # the auxiliary head gets no gradient
    optimizer.step()
    state, schedule = optimizer.state_dict(), optimizer.schedule.state_dict()
    slots = {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
    assert {f"layer1.0.conv1.weight/{slot}" for slot in slots} <= set(state)
    assert not any(name.startswith("regularizer.aux_head") for name in state)
    build("resnet8", 3)  # moves the counter behind the names
    other, second = made("smile", kind="adamw", layer_decay=0.7)
    other.set_state_dict(model.state_dict())
    second.set_state_dict({name: value.numpy() for name, value in state.items()}, schedule)
    found = given_gradients(optimizer, 2, seed=3)
    for own in (optimizer, second):
        own.step()  # once without gradients
        for gradient in found:
            update(own, gradient)
    first, last = arrays(model), arrays(other)
    assert all(np.array_equal(first[name], last[name]) for name in first)
    ours, theirs = optimizer.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in ours)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("parts", [1, 4])
def test_the_gradient_is_clipped_by_the_norm_of_all_of_it(kind, parts):
    def moved(scale, **clipping):
        model, optimizer = made("smile", kind=kind, accum=parts, **clipping)
        gradient = given_gradients(optimizer, 1, scale=scale)[0]
        update(optimizer, gradient, parts)
        return float64(model, optimizer), gradient

    norm = np.sqrt(sum((g**2).sum() for g in moved(1.0)[1].values()))
    limited, _ = moved(1.0, clip_norm=norm / 10)
    scaled, _ = moved(0.1)
    for name, value in scaled.items():
        np.testing.assert_allclose(limited[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.allclose(moved(1.0)[0]["conv1.weight"], scaled["conv1.weight"]) or kind == "adamw"


def test_a_smaller_gradient_is_left_alone_to_the_bit():
    results = []
    for limit in (None, 1e9):
        model, optimizer = made(clip_norm=limit)
        update(optimizer, given_gradients(optimizer, 1)[0])
        results.append(arrays(model))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_a_gradient_of_zeros_stays_zero_when_clipped():
    model, optimizer = made(clip_norm=1.0, wd=0.0, cls_lambda=0.0)
    before = arrays(model)
    update(optimizer, {name: np.zeros(p.shape) for name, p in optimizer.parameters.items()})
    assert all(np.array_equal(before[name], value) for name, value in arrays(model).items())


class Halving:
    """Two ranks, of which the other one has gradients of zero."""

    count = 2

    @staticmethod
    @paddle.no_grad()
    def average(tensors):
        for tensor in tensors:
            tensor.scale_(0.5)


def test_the_gradient_is_clipped_after_it_was_averaged_over_the_ranks():
    ends = []
    for share, ranks in ((0.5, SINGLE_PROCESS), (1.0, Halving())):
        model, optimizer = made(clip_norm=3.0, ranks=ranks)
        gradient = given_gradients(optimizer, 1, scale=share)[0]
        assert sum((g**2).sum() for g in gradient.values()) > (2 * 3.0) ** 2
        update(optimizer, gradient)
        ends.append(float64(model, optimizer))
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_frozen_statistics_are_not_averaged_over_the_ranks():
    setup = toy_setup()
    rates = {"wd": 0.0, "cls_lambda": 0.0, "head_lr_mult": 1.0}
    assert len(Optimizer(setup.model, create("l2"), Schedule(0.1, 2), **rates).statistics) == 2 * 7
    freeze_statistics(setup.model)
    assert Optimizer(setup.model, create("l2"), Schedule(0.1, 2), **rates).statistics == []


@pytest.mark.parametrize("norm", [1e-3, 1.0, 50.0])
def test_clip_against_numpy(norm):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=size).astype("float32") for size in ((3, 4), (5,), (2, 2, 2))]
    tensors = [paddle.to_tensor(value) for value in values]
    clip(tensors, norm)
    total = np.sqrt(sum((value.astype("float64") ** 2).sum() for value in values))
    for tensor, value in zip(tensors, values):
        np.testing.assert_allclose(tensor.numpy(), value * min(1.0, norm / total), rtol=1e-6)


def test_the_choices_of_the_command_line_are_those_of_the_optimizer():
    kinds = next(each for each in fields(Options) if each.name == "optimizer").metadata["accepts"]
    assert set(kinds) == set(SLOTS)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_what_gets_no_gradient_any_more_goes_on_after_a_restart(kind):
    """As SMILE's second head in the clean tail: its momentum still moves it."""
    results = []
    for restarted in (False, True):
        model, optimizer = made("smile", kind=kind)
        first, *later = given_gradients(optimizer, 3)
        update(optimizer, first)
        if restarted:
            weights = arrays(model)
            slots = {name: value.numpy() for name, value in optimizer.state_dict().items()}
            method = {name: p.numpy() for name, p in optimizer.parameters.items() if name.startswith("regularizer.")}
            schedule = optimizer.schedule.state_dict()
            model, optimizer = made("smile", kind=kind)
            model.set_state_dict(weights)
            for name, value in method.items():
                optimizer.parameters[name].set_value(value)
            optimizer.set_state_dict(slots, schedule)
        for gradient in later:
            terms = [
                (p * paddle.to_tensor(gradient[name].astype("float32"))).sum()
                for name, p in optimizer.parameters.items()
                if not name.startswith("regularizer.")
            ]
            sum(terms).backward()
            optimizer.sync_gradients()
            optimizer.step()
        results.append({name: p.numpy() for name, p in optimizer.parameters.items()})
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])

import copy
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

import models
from models.parameters import freeze, trainable_parameters
from regularizers.l2sp import L2SP
from regularizers.losses import cross_entropy


def networks(classes=3, source_classes=5):
    """Return a student, and the frozen source whose backbone it starts with."""
    model, source = models.build("resnet8", classes), models.build("resnet8", source_classes)
    source.set_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")} | head_of(source))
    return model, freeze(source)


def head_of(network):
    return {k: v for k, v in network.state_dict().items() if k.startswith("fc.")}


def prepared(model, source, **values):
    method = L2SP(**values)
    method.prepare(SimpleNamespace(model=model, source=source))
    return method


def sp(method, model):
    return term(method, model).item()


def term(method, model):
    """Return the penalty, which looks at neither images nor outputs."""
    values = method.loss(model, None, None, 0)
    assert list(values) == ["sp"]
    return values["sp"]


def zero_gradients(model):
    """Give every tensor that is trained a gradient of zero."""
    for tensor in trainable_parameters(model).values():
        (tensor * 0).sum().backward()


def shift(tensor, seed=0, scale=1.0):
    d = np.random.default_rng(seed).standard_normal(tensor.shape) * scale
    tensor.set_value((tensor.numpy() + d).astype("float32"))
    return d


def inputs(seed=0, classes=3):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((4, 3, 16, 16)).astype("float32")
    return paddle.to_tensor(images), paddle.to_tensor(np.eye(classes, dtype="float32")[rng.integers(classes, size=4)])


def test_at_the_pretrained_weights_value_and_gradient_are_zero():
    model, source = networks()
    method = prepared(model, source, sp_lambda=0.5)
    zero_gradients(model)
    term(method, model).backward()
    assert sp(method, model) == 0
    assert all((tensor.grad.numpy() == 0).all() for tensor in trainable_parameters(model).values())


def test_the_value_is_half_the_squared_distance():
    model, source = networks()
    method = prepared(model, source, sp_lambda=0.3)
    d = shift(model.layer2[0].conv1.weight)
    once = sp(method, model)
    assert once == pytest.approx(0.5 * 0.3 * (d**2).sum(), rel=1e-5)
    model.layer2[0].conv1.weight.set_value((source.layer2[0].conv1.weight.numpy() + 2 * d).astype("float32"))
    assert sp(method, model) == pytest.approx(4 * once, rel=1e-5)


def test_the_gradient_is_the_distance_for_the_backbone_and_the_weight_for_the_head():
    model, source = networks()
    method = prepared(model, source, sp_lambda=0.3, sp_head_lambda=0.7)
    for seed, tensor in enumerate(trainable_parameters(model).values()):
        shift(tensor, seed)
    zero_gradients(model)
    kept = {name: tensor.numpy() for name, tensor in model.named_parameters()}
    term(method, model).backward()
    origin = dict(source.named_parameters())
    expected_value = 0
    for name, tensor in trainable_parameters(model).items():
        p = tensor.numpy().astype("float64")
        is_head = name.startswith("fc.")
        distance, strength = (p, 0.7) if is_head else (p - origin[name].numpy(), 0.3)
        np.testing.assert_allclose(tensor.grad.numpy(), strength * distance, rtol=1e-5, atol=1e-6)
        expected_value += 0.5 * strength * (distance**2).sum()
    assert sp(method, model) == pytest.approx(expected_value, rel=1e-5)
    for name, tensor in model.named_parameters():
        assert (tensor.numpy() == kept[name]).all(), f"{name} itself must not change"


def test_the_official_form_pulls_kernels_alone():
    model, source = networks()
    method = prepared(model, source, sp_lambda=0.1, sp_head_lambda=0.01, sp_bn=False)
    moved = [shift(tensor, seed) for seed, tensor in enumerate(trainable_parameters(model).values())]
    assert any(moved[-1] != 0)
    zero_gradients(model)
    term(method, model).backward()
    origin, value = dict(source.named_parameters()), 0
    for name, tensor in trainable_parameters(model).items():
        p = tensor.numpy().astype("float64")
        if p.ndim == 1:
            assert not tensor.grad.numpy().any(), name
            continue
        distance, strength = (p, 0.01) if name.startswith("fc.") else (p - origin[name].numpy(), 0.1)
        np.testing.assert_allclose(tensor.grad.numpy(), strength * distance, rtol=1e-5, atol=1e-6)
        value += 0.5 * strength * (distance**2).sum()
    assert sp(method, model) == pytest.approx(value, rel=1e-5)


def test_the_head_is_free_by_default():
    model, source = networks()
    method = prepared(model, source)
    shift(model.head.weight)
    shift(model.head.bias)
    zero_gradients(model)
    term(method, model).backward()
    assert sp(method, model) == 0
    assert all((tensor.grad.numpy() == 0).all() for tensor in model.head.parameters())


def test_running_statistics_do_not_count():
    model, source = networks()
    method = prepared(model, source)
    model.bn1._mean.set_value(model.bn1._mean + 3)
    model.layer1[0].bn1._variance.set_value(model.layer1[0].bn1._variance * 2)
    zero_gradients(model)
    term(method, model).backward()
    assert sp(method, model) == 0
    assert model.bn1._mean.grad is None


def test_the_official_form_pulls_kernels_only():
    model, source = networks()
    method = prepared(model, source, sp_lambda=1.0, sp_bn=False)
    shift(model.bn1.weight)
    shift(model.bn1.bias)
    assert sp(method, model) == 0
    d = shift(model.conv1.weight)
    zero_gradients(model)
    term(method, model).backward()
    assert sp(method, model) == pytest.approx(0.5 * (d**2).sum(), rel=1e-5)
    assert (model.bn1.weight.grad.numpy() == 0).all()
    np.testing.assert_allclose(model.conv1.weight.grad.numpy(), d, atol=1e-6)
    assert [name for name in method.start if not name.endswith(("conv1.weight", "conv2.weight"))] == []


def test_training_does_not_move_where_it_is_pulled_to():
    model, source = networks()
    method = prepared(model, source, sp_lambda=0.1)
    before = {name: value.numpy() for name, value in method.start.items()}
    optimizer = paddle.optimizer.Momentum(0.1, 0.9, parameters=model.parameters(), use_nesterov=True)
    images, targets = inputs()
    (cross_entropy(model(images).logits, targets) + term(method, model)).backward()
    optimizer.step()
    assert (model.conv1.weight.numpy() != before["conv1.weight"]).any()
    for name, value in method.start.items():
        assert (value.numpy() == before[name]).all()
        assert value.stop_gradient


def test_steps_equal_those_with_the_equation_written_out():
    ours, source = networks()
    for seed, tensor in enumerate(trainable_parameters(ours).values()):
        shift(tensor, seed, scale=0.02)
    theirs = copy.deepcopy(ours)
    method = prepared(ours, source, sp_lambda=0.2, sp_head_lambda=0.1)
    origin = dict(source.named_parameters())

    def penalty(model):
        total = paddle.zeros([])
        for name, tensor in trainable_parameters(model).items():
            if name.startswith("fc."):
                total = total + 0.5 * 0.1 * (tensor**2).sum()
            else:
                total = total + 0.5 * 0.2 * ((tensor - origin[name]) ** 2).sum()
        return total

    for model, written_out in ((ours, False), (theirs, True)):
        optimizer = paddle.optimizer.Momentum(
            0.05, 0.9, parameters=model.parameters(), use_nesterov=True, weight_decay=1e-4
        )
        for step in range(3):
            images, targets = inputs(step)
            loss = cross_entropy(model(images).logits, targets)
            (loss + (penalty(model) if written_out else term(method, model))).backward()
            optimizer.step()
            optimizer.clear_grad()
    moved = 0
    for (name, a), b in zip(trainable_parameters(ours).items(), trainable_parameters(theirs).values()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6, err_msg=name)
        moved += np.abs(a.numpy() - (origin[name].numpy() if not name.startswith("fc.") else 0)).sum()
    assert moved > 0
    assert sp(method, ours) == pytest.approx(penalty(theirs).item(), rel=1e-4)


def test_a_frozen_tensor_is_not_pulled():
    model, source = networks()
    method = prepared(model, source)
    shift(model.conv1.weight)
    model.conv1.weight.stop_gradient = True
    assert sp(method, model) == 0


def test_nothing_goes_to_the_optimizer_or_the_checkpoint():
    method = prepared(*networks())
    assert method.parameters() == []
    assert method.state_dict() == {}
    assert method.requirements().source
    assert method.requirements().backbone == "regularized"


def test_resnet50_has_159_tensors_besides_its_head():
    model = models.build("resnet50", 2)
    start = prepared(model, model).start
    assert len(start) == 159
    assert sum(int(np.prod(value.shape)) for value in start.values()) == 23_508_032
    assert len(prepared(model, model, sp_bn=False).start) == 53


def test_ranges():
    assert (L2SP().sp_lambda, L2SP().sp_head_lambda, L2SP().sp_bn) == (1e-3, 0, True)
    with pytest.raises(ValueError, match="--sp_lambda -1"):
        L2SP(sp_lambda=-1.0)
    with pytest.raises(ValueError, match="--sp_head_lambda nan"):
        L2SP(sp_head_lambda=np.nan)

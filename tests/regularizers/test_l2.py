import numpy as np
import paddle
from paddle import nn

import models
from datasets.batch import Batch
from models.parameters import trainable_parameters
from regularizers.l2 import L2
from regularizers.losses import cross_entropy
from training.optimizer import Optimizer
from training.schedule import Schedule

WD = 1e-4


def momentum(parameters, wd=WD):
    return paddle.optimizer.Momentum(0.1, 0.9, parameters=parameters, use_nesterov=True, weight_decay=wd)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def batch_of(size, classes=4, pixels=16, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 3, pixels, pixels)).astype("float32")
    targets = np.eye(classes, dtype="float32")[rng.integers(classes, size=size)]
    return Batch(paddle.to_tensor(images), paddle.to_tensor(targets), paddle.arange(size))


def test_it_adds_nothing():
    method, model, batch = L2(), models.build("resnet8", 4), batch_of(3)
    method.prepare(None)
    assert method.transform(batch, 0) is batch
    assert method.loss(model, batch, model(batch.images), 0) == {}
    assert method.parameters() == []
    assert method.state_dict() == {}


def test_steps_on_a_linear_model_follow_the_nesterov_recursion():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 5)), np.eye(3)[rng.integers(3, size=8)]
    w, b = rng.standard_normal((5, 3)), rng.standard_normal(3)
    model = nn.Linear(5, 3)
    model.weight.set_value(w.astype("float32"))
    model.bias.set_value(b.astype("float32"))
    optimizer = momentum(model.parameters(), wd=0.01)
    velocity = {"w": 0, "b": 0}
    for _ in range(3):
        cross_entropy(model(paddle.to_tensor(x, "float32")), paddle.to_tensor(y, "float32")).backward()
        optimizer.step()
        optimizer.clear_grad()
        residual = (softmax(x @ w + b) - y) / len(x)
        g = {"w": x.T @ residual + 0.01 * w, "b": residual.sum(axis=0) + 0.01 * b}
        velocity = {k: 0.9 * velocity[k] + g[k] for k in g}
        w = w - 0.1 * (g["w"] + 0.9 * velocity["w"])
        b = b - 0.1 * (g["b"] + 0.9 * velocity["b"])
    np.testing.assert_allclose(model.weight.numpy(), w, atol=1e-6)
    np.testing.assert_allclose(model.bias.numpy(), b, atol=1e-6)


def test_a_heads_own_decay_adds_exactly_its_multiple_of_the_head():
    model, method = models.build("resnet8", 4), L2()
    optimizer = Optimizer(model, method, Schedule(0.1, 9), wd=WD, cls_lambda=0.05, head_lr_mult=1.0)
    before = {name: value.numpy().astype("float64") for name, value in trainable_parameters(model).items()}
    (model(batch_of(2).images).logits.sum() * 0).backward()
    optimizer.step()
    for name, value in trainable_parameters(model).items():
        decay = WD + 0.05 if name.startswith("fc.") else WD
        np.testing.assert_allclose(value.numpy(), (1 - 0.1 * 1.9 * decay) * before[name], atol=1e-7, err_msg=name)


def test_decay_touches_scale_and_shift_but_no_running_statistics():
    model = models.build("resnet8", 4)
    for parameter in model.parameters():
        parameter.set_value(paddle.ones_like(parameter))
    model.eval()  # with no gradient from the loss, and no statistics from the forward, decay alone is left
    optimizer = momentum(model.parameters(), wd=0.5)
    (model(batch_of(2).images).logits.sum() * 0).backward()
    optimizer.step()
    after = dict(model.named_parameters())
    for name in ("bn1.weight", "bn1.bias", "layer3.0.bn2.weight", "conv1.weight", "fc.bias"):
        np.testing.assert_allclose(after[name].numpy(), 1 - 0.1 * 1.9 * 0.5, rtol=1e-6)
    statistics = [name for name in after if name.endswith(("._mean", "._variance"))]
    assert len(statistics) == 14
    for name in statistics:
        assert (after[name].numpy() == 1).all()


def test_a_batch_of_one_trains():
    model, batch = models.build("resnet8", 4), batch_of(1)
    optimizer = momentum(model.parameters())
    before = model.head.weight.numpy()
    loss = cross_entropy(model(batch.images).logits, batch.targets)
    loss.backward()
    optimizer.step()
    assert np.isfinite(loss.item())
    after = model.head.weight.numpy()
    assert np.isfinite(after).all()
    assert (after != before).any()

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

import models
from models.network import Network
from models.parameters import trainable_parameters
from regularizers.base import Chain
from regularizers.bss import BSS
from regularizers.cutmix import CutMix
from regularizers.fe import FE
from regularizers.l2sp import L2SP
from regularizers.losses import cross_entropy
from regularizers.mixup import Mixup
from regularizers.rifle import RIFLE
from regularizers.smile import SMILE
from utils.errors import UsageError


def prepared(model):
    model.train()
    method = FE()
    method.prepare(SimpleNamespace(model=model))
    return method


def images(count=4):
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((count, 3, 16, 16)).astype("float32"))


def test_an_update_moves_the_head_and_nothing_else():
    model = models.build("resnet8", 3)
    method = prepared(model)
    assert list(trainable_parameters(model)) == ["fc.weight", "fc.bias"]
    optimizer = paddle.optimizer.Momentum(
        0.1, 0.9, parameters=list(trainable_parameters(model).values()), use_nesterov=True, weight_decay=1e-4
    )
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    for step in range(2):
        cross_entropy(model(images()).logits, paddle.eye(3)[paddle.to_tensor([0, 1, 2, 0])]).backward()
        optimizer.step()
        optimizer.clear_grad()
        method.after_step(model, step)
    changed = {name for name, value in model.state_dict().items() if (value.numpy() != before[name]).any()}
    assert changed == {"fc.weight", "fc.bias"}


def test_the_features_are_the_pretrained_networks_own():
    model = models.build("resnet8", 3)
    model.eval()
    expected = model(images()).features.numpy()
    prepared(model)
    np.testing.assert_array_equal(model(images()).features.numpy(), expected)
    np.testing.assert_allclose(model(images()[:1]).features.numpy(), expected[:1], atol=1e-6)


def test_the_head_trains_like_a_linear_model_on_the_features():
    model = models.build("resnet8", 3)
    prepared(model)
    outputs = model(images())
    targets = np.eye(3)[[0, 1, 2, 0]]
    cross_entropy(outputs.logits, paddle.to_tensor(targets, "float32")).backward()
    z = outputs.logits.numpy().astype("float64")
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = outputs.features.numpy().astype("float64").T @ (p - targets) / 4
    np.testing.assert_allclose(model.head.weight.grad.numpy(), expected, atol=1e-6)
    assert model.conv1.weight.grad is None


def test_dropout_stays_in_training_mode():
    class Toy(Network, nn.Layer):
        head_name = "classifier"

        def __init__(self):
            super().__init__()
            self.norm, self.dropout, self.classifier = nn.BatchNorm1D(4), nn.Dropout(0.5), nn.Linear(4, 2)

    network = Toy()
    prepared(network)
    assert not network.norm.training
    assert network.dropout.training
    assert network.training
    assert list(trainable_parameters(network)) == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("other", [L2SP, BSS, SMILE])
def test_what_acts_on_the_backbone_is_refused(other):
    for parts in ({"fe": FE(), "other": other()}, {"other": other(), "fe": FE()}):
        with pytest.raises(UsageError, match="freezes the backbone"):
            Chain(parts)


@pytest.mark.parametrize("other", [Mixup, CutMix, RIFLE])
def test_what_does_not_is_welcome(other):
    chain = Chain({"fe": FE(), "other": other()})
    assert chain.requirements().source
    assert chain.requirements().backbone != "regularized"

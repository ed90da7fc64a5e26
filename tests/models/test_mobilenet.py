import numpy as np
import paddle
import paddle.vision.models as vision
import pytest
from paddle import nn

from models.mobilenet import ARCHITECTURES
from regularizers.losses import cross_entropy
from tests.models.random_weights import random_weights


@pytest.fixture
def network():
    network = ARCHITECTURES["mobilenet_v2"](5)
    network.set_state_dict(random_weights(network))
    network.eval()
    return network


@pytest.fixture
def images():
    return paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype("float32"))


def test_it_is_paddle_visions_network(network, images):
    origin = vision.mobilenet_v2(num_classes=5)
    assert list(network.state_dict()) == list(origin.state_dict())
    origin.set_state_dict(network.state_dict())
    origin.eval()
    assert np.array_equal(network(images).logits.numpy(), origin(images).numpy())


def test_outputs_have_the_promised_shapes(network, images):
    outputs = network(images)
    channels, sizes = (16, 24, 32, 96, 1280), (32, 16, 8, 4, 2)
    assert [list(m.shape) for m in outputs.maps] == [[2, c, n, n] for c, n in zip(channels, sizes)]
    assert list(outputs.features.shape) == [2, 1280]
    assert list(outputs.logits.shape) == [2, 5]


def test_the_last_map_feeds_the_pool_and_the_features_the_head(network, images):
    outputs = network(images)
    np.testing.assert_allclose(outputs.maps[-1].numpy().mean((2, 3)), outputs.features.numpy(), rtol=1e-5, atol=1e-6)
    assert isinstance(network.head, nn.Linear)
    assert np.array_equal(network.head(outputs.features).numpy(), outputs.logits.numpy())


def test_every_head_reads_the_same_dropout(network, images):
    network.classifier.train()  # the rest stays in evaluation
    paddle.seed(0)
    outputs, clean = network(images), network.pooled(network(images))
    features, whole = outputs.features.numpy(), clean.numpy()
    kept = features != 0
    assert 0.75 < kept[whole > 0].mean() < 0.85
    np.testing.assert_allclose(features[kept], whole[kept] / 0.8, rtol=1e-4, atol=1e-5)
    assert np.array_equal(network.head(outputs.features).numpy(), outputs.logits.numpy())


def test_every_map_is_the_last_of_its_resolution(network, images):
    outputs = [images]
    for layer in network.features:
        outputs.append(layer(outputs[-1]))
    following = [x.shape[-1] for x in outputs[2:]] + [0]
    expected = [x.numpy() for x, size in zip(outputs[1:], following) if size < x.shape[-1]]
    maps = network(images).maps
    assert len(maps) == len(expected)
    assert all(np.array_equal(got.numpy(), want) for got, want in zip(maps, expected))


def test_the_head_has_its_name_in_the_state(network):
    assert network.state_dict()[f"{network.head_name}.weight"] is network.head.weight


def test_one_step_trains_and_the_seed_decides_it(images):
    losses = []
    for _ in range(2):
        paddle.seed(3)
        network = ARCHITECTURES["mobilenet_v2"](5)
        network.train()
        optimizer = paddle.optimizer.Momentum(1e-2, 0.9, parameters=network.parameters())
        for _ in range(2):
            paddle.seed(4)
            loss = cross_entropy(network(images).logits, paddle.eye(5)[:2])
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(loss.item())
    assert losses[1] < losses[0]
    assert losses[:2] == losses[2:]

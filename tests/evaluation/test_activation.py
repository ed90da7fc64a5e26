"""Class activation maps: the sum over the positions is the logit but for the bias, in double precision."""

import numpy as np
import paddle
import pytest

from evaluation.activation import contributions, overlay, where
from models import build
from models.parameters import freeze
from tests.models.random_weights import random_weights

EXACT = ["resnet8", "resnet18", "mobilenet_v2", "efficientnet_b0"]
CLASSES = 5


def network_of(arch):
    network = build(arch, CLASSES)
    network.set_state_dict(random_weights(network, seed=1))
    return freeze(network)


def images_of(side, dtype):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(dtype))


@pytest.mark.parametrize("arch", EXACT)
def test_the_sum_over_the_positions_is_the_logit_without_the_bias(arch):
    network = network_of(arch).to(dtype="float64")
    images = images_of(64, "float64")
    every = np.tile(np.arange(CLASSES), (2, 1))
    found = contributions(network, images, every)
    assert found.dtype == np.float64
    assert min(found.shape[2:]) > 1  # one position alone would be a sum of one
    wanted = network(images).logits.numpy() - network.head.bias.numpy()
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(found.sum(axis=(2, 3)), wanted, rtol=1e-10, atol=1e-12)


def test_a_value_is_the_logit_of_its_position_alone():
    network = network_of("resnet8")
    images = images_of(32, "float32")
    found = contributions(network, images, np.array([[3, 0], [4, 4]]))
    maps = network(images).maps[-1].numpy()
    for image, labels in enumerate(([3, 0], [4, 4])):
        for place, label in enumerate(labels):
            for row in range(8):
                for column in range(8):
                    alone = np.zeros_like(maps[image])
                    alone[:, row, column] = maps[image, :, row, column]
                    logits = network.head(paddle.to_tensor(alone.mean(axis=(1, 2)))).numpy()
                    wanted = logits[label] - network.head.bias.numpy()[label]
                    assert found[image, place, row, column] == pytest.approx(wanted, abs=1e-5)


def test_a_head_that_reads_something_else_has_no_map():
    assert contributions(network_of("mobilenet_v3_small"), images_of(32, "float32"), np.array([[0], [1]])) is None


def test_red_speaks_for_and_blue_against():
    crop = np.full((16, 16, 3), 128, dtype="uint8")
    drawn = np.asarray(overlay(crop, np.array([[1.0, 0.0], [0.0, -1.0]]), 32)).astype(int)
    assert drawn.shape == (32, 32, 3)
    red, blue = drawn[0, 0], drawn[-1, -1]
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert np.ptp(np.asarray(overlay(crop, np.zeros((2, 2)), 32)), axis=2).max() == 0  # grey
    assert overlay(crop, np.full((2, 2), np.nan), 32).size == (32, 32)


@pytest.mark.parametrize(
    ("place", "words"),
    [((0, 0), "upper left"), ((0, 4), "upper"), ((4, 4), "centre"), ((4, 8), "right"), ((8, 0), "lower left")],
)
def test_a_place_in_words(place, words):
    values = np.zeros((9, 9))
    values[place] = 1
    assert where(values) == words

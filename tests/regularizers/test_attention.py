"""DELTA's channel attention against weights that are really set to zero, in NumPy and float64 after the features."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models import build
from models.parameters import freeze
from models.stages import Taps, stage_ends
from regularizers import attention
from regularizers.attention import batch_increases, channel_attention, fit_head
from tests.regularizers.toys import ToyImages, arrays, same


def network(arch, seed=0):
    """Return a frozen network whose batch normalisation is not the identity."""
    rng, net = np.random.default_rng(seed), build(arch, 5)
    for name, tensor in net.named_parameters():
        if name.endswith("_variance"):
            tensor.set_value(rng.uniform(0.5, 2, tensor.shape).astype("float32"))
        elif tensor.ndim == 1:
            tensor.set_value(rng.normal(0.3, 0.4, tensor.shape).astype("float32"))
        else:
            tensor.set_value(rng.normal(0, np.prod(tensor.shape[1:]) ** -0.5, tensor.shape).astype("float32"))
    return freeze(net)


def clean(labels, classes):
    """Return clean training images with these labels."""
    images = np.random.default_rng(5).normal(size=(len(labels), 3, 16, 16)).astype("float32")
    return ToyImages(images, np.array(labels), [f"c{i}" for i in range(classes)])


def some_head(net, classes, seed=1):
    rng = np.random.default_rng(seed)
    channels = net.head.weight.shape[0]
    return (
        paddle.to_tensor(rng.normal(0, channels**-0.5, (channels, classes))),
        paddle.to_tensor(rng.normal(size=classes)),
    )


def losses(net, images, labels, head):
    """Return the cross-entropy of each image, float64 [B]."""
    with paddle.no_grad():
        logits = net(images).features.numpy().astype("float64") @ head[0].numpy() + head[1].numpy()
    top = logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(logits - top).sum(axis=1, keepdims=True)) + top - logits)[np.arange(len(labels)), labels]


def brute_force(net, images, labels, head, conv, filters):
    """Return the increase of the summed loss for each of `filters`, its weights set to zero and put back."""
    before, weight, increases = losses(net, images, labels, head).sum(), conv.weight.numpy(), []
    for j in filters:
        zeroed = weight.copy()
        zeroed[j] = 0
        conv.weight.set_value(zeroed)
        increases.append(losses(net, images, labels, head).sum() - before)
    conv.weight.set_value(weight)
    return np.array(increases)


@pytest.fixture
def images():
    return paddle.to_tensor(np.random.default_rng(3).normal(size=(4, 3, 16, 16)).astype("float32"))


LABELS = np.array([2, 0, 1, 2])


def test_both_ways_of_measuring_equal_weights_set_to_zero(images):
    net = network("resnet8")
    head, before = some_head(net, 3), arrays(net)
    ends = stage_ends(net)
    measured = batch_increases(net, images, LABELS, head, ends)
    assert same(arrays(net), before)
    assert [bool(end.rest) for end in ends] == [True, True, False]  # run on, run on, closed form
    for end, increases in zip(ends, measured):
        expected = brute_force(net, images, LABELS, head, end.conv, range(end.channels))
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(increases, expected, rtol=1e-5, atol=1e-5)


def test_closed_form_of_a_bottleneck_equals_weights_set_to_zero(images):
    net = network("resnet50")
    head = some_head(net, 3)
    [end] = stage_ends(net)[-1:]
    [increases] = batch_increases(net, images, LABELS, head, [end])
    filters = np.argsort(-np.abs(increases))[::200]
    expected = brute_force(net, images, LABELS, head, end.conv, filters)
    assert len(increases) == 2048
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(increases[filters], expected, rtol=1e-4, atol=1e-5)


def test_large_losses_are_not_cut_off(images):
    net = network("resnet8")
    head = tuple(300 * part for part in some_head(net, 3))
    for end, increases in zip(stage_ends(net), batch_increases(net, images, LABELS, head, stage_ends(net))):
        expected = brute_force(net, images, LABELS, head, end.conv, range(4))
        np.testing.assert_allclose(increases[:4], expected, rtol=1e-4, atol=1e-2)
    assert losses(net, images, LABELS, head).max() > 64


def test_the_size_of_the_pieces_changes_nothing(images, monkeypatch):
    net = network("resnet8")
    head, told = some_head(net, 3), []
    whole = batch_increases(net, images, LABELS, head, stage_ends(net), told.append)
    assert sum(told) == 16 + 32 + 64
    for elements in (1, 16 * 16 * 16 * 4 * 3, 3 * 4 * 5):
        monkeypatch.setattr(attention, "ELEMENTS", elements)
        for pieces, increases in zip(batch_increases(net, images, LABELS, head, stage_ends(net)), whole):
            np.testing.assert_allclose(pieces, increases, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "convs"),
    [
        ("resnet8", ["layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"]),
        ("resnet18", ["layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2"]),
        ("resnet50", ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"]),
    ],
)
def test_stage_ends_are_the_official_layers(arch, convs):
    net = build(arch, 2)
    names = {id(layer): name for name, layer in net.named_sublayers()}
    assert [names[id(end.conv)] for end in stage_ends(net)] == convs
    assert [names[id(end.norm)] for end in stage_ends(net)] == [conv.replace("conv", "bn") for conv in convs]


def test_another_network_has_no_stage_ends():
    assert stage_ends(build("mobilenet_v2", 2)) == []


def test_taps_keep_the_last_forward_until_it_is_taken():
    layer = nn.Linear(2, 3)
    taps = Taps([layer])
    layer(paddle.ones([5, 2]))
    given = paddle.ones([1, 2])
    returned = layer(given)
    [(kept_given, kept_returned)] = taps.take()
    assert kept_given is given
    assert kept_returned is returned
    assert taps.take() == [None]
    kept_returned.sum().backward()
    assert layer.weight.grad is not None


def test_taps_end_with_their_block():
    layer = nn.Linear(2, 3)
    with Taps([layer]) as taps:
        pass
    layer(paddle.ones([1, 2]))
    assert taps.take() == [None]


def test_attention_is_the_softmax_of_the_standardised_increases():
    increases = np.random.default_rng(0).normal(size=9)
    weights = channel_attention(increases)
    scores = (increases - increases.mean()) / np.sqrt(((increases - increases.mean()) ** 2).mean()) / 5
    np.testing.assert_allclose(weights, np.exp(scores) / np.exp(scores).sum(), rtol=1e-12)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(channel_attention(3.5 * increases + 7), weights, rtol=1e-12)


@pytest.mark.parametrize("increases", [np.zeros(6), np.full(6, 0.1), np.array([2.0])])
def test_attention_to_channels_that_matter_alike_is_uniform(increases):
    np.testing.assert_array_equal(channel_attention(increases), np.full(len(increases), 1 / len(increases)))


def test_the_classifier_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(30, 4)), np.arange(30) % 3
    weight, bias = (part.numpy() for part in fit_head(features.astype("float32"), labels))
    scores = np.exp(features @ weight + bias)
    errors = (scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[labels]) / 30
    np.testing.assert_allclose(features.T @ errors + attention.HEAD_DECAY * weight, 0, atol=1e-4)
    np.testing.assert_allclose(errors.sum(axis=0), 0, atol=1e-4)


def test_a_classifier_of_two_classes_and_of_one():
    features = np.array([[-1.0, 0], [-2, 1], [1, 0], [2, 1]], dtype="float32")
    weight, bias = fit_head(features, np.array([0, 0, 1, 1]))
    assert list(weight.shape) == [2, 2]
    assert (features @ weight.numpy() + bias.numpy()).argmax(axis=1).tolist() == [0, 0, 1, 1]
    weight, bias = fit_head(features, np.zeros(4, dtype="int64"))
    assert list(weight.shape) == [2, 1]
    assert list(bias.shape) == [1]


def test_increases_are_means_over_the_chosen_images(monkeypatch):
    monkeypatch.setattr(attention, "BATCH", 2)
    net, train = network("resnet8"), clean([0, 0, 3, 1, 1, 3, 0], classes=5)  # classes 2 and 4 have no image
    measured = attention.loss_increases(net, train, stage_ends(net), 4, np.random.default_rng(8))
    chosen = np.random.default_rng(8).permutation(7)[:4]
    images, labels = paddle.to_tensor(train.images), np.unique(train.labels, return_inverse=True)[1]
    head = fit_head(net(images).features.numpy(), labels)
    alone = [batch_increases(net, images[[int(i)]], labels[[i]], head, stage_ends(net)) for i in chosen]
    for stage, increases in enumerate(measured):
        expected = sum(one[stage] for one in alone) / 4
        np.testing.assert_allclose(increases, expected, rtol=1e-3, atol=1e-5)


def test_fewer_images_than_asked_for_are_all_measured(monkeypatch):
    monkeypatch.setattr(attention, "BATCH", 4)
    net, train = network("resnet8"), clean([0, 1, 0, 1, 1], classes=2)
    few, many = (
        attention.loss_increases(net, train, stage_ends(net)[-1:], count, np.random.default_rng(8))
        for count in (5, 100)
    )
    np.testing.assert_array_equal(few, many)


def test_with_one_class_no_filter_matters():
    net = network("resnet8")
    for increases in attention.loss_increases(
        net, clean([1, 1], classes=2), stage_ends(net), 4, np.random.default_rng(0)
    ):
        np.testing.assert_array_equal(increases, 0)

import copy
import math

import numpy as np
import paddle
import pytest
from paddle import nn

from models import efficientnet
from models.efficientnet import ARCHITECTURES, MBConv, round_channels
from regularizers.losses import cross_entropy
from tests.models.random_weights import random_weights

STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)


def fixed(network):
    """Give `network` fixed weights and put it in evaluation; return it (in paddle 2.6 `eval` returns nothing)."""
    network.set_state_dict(random_weights(network))
    network.eval()
    return network


@pytest.fixture(scope="module")
def b0():
    return fixed(ARCHITECTURES["efficientnet_b0"](5))


@pytest.fixture(scope="module")
def b4():
    return fixed(ARCHITECTURES["efficientnet_b4"](1000))


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype("float32")


def same_padding(size, kernel, stride):
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x, kernel, stride):
    return np.pad(
        x, [(0, 0), (0, 0), same_padding(x.shape[2], kernel, stride), same_padding(x.shape[3], kernel, stride)]
    )


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def swish(x):
    return x * sigmoid(x)


class NumpyMBConv:
    """The block of the paper in evaluation, float64."""

    def __init__(self, state, stride, skips):
        self.state = {name: np.asarray(array, "float64") for name, array in state.items()}
        self.stride, self.skips = stride, skips

    def __call__(self, inputs):
        x = inputs.astype("float64")
        if "_expand_conv.weight" in self.state:
            x = swish(self.norm("_bn0", self.pointwise("_expand_conv", x)))
        x = swish(self.norm("_bn1", self.depthwise(x)))
        squeezed = swish(self.pointwise("_se_reduce", x.mean((2, 3), keepdims=True)))
        x = x * sigmoid(self.pointwise("_se_expand", squeezed))
        x = self.norm("_bn2", self.pointwise("_project_conv", x))
        return x + inputs if self.skips else x

    def norm(self, name, x):
        mean, variance, weight, bias = (
            self.state[f"{name}.{leaf}"][:, None, None] for leaf in ("_mean", "_variance", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias

    def pointwise(self, name, x):
        y = np.einsum("bchw,oc->bohw", x, self.state[f"{name}.weight"][:, :, 0, 0])
        return y + self.state.get(f"{name}.bias", np.zeros(1))[:, None, None]

    def depthwise(self, x):
        weight = self.state["_depthwise_conv.weight"]
        kernel, stride = weight.shape[2], self.stride
        height, width = (math.ceil(n / stride) for n in x.shape[2:])
        x = pad_same(x, kernel, stride)
        return sum(
            weight[:, 0, i, j, None, None]
            * x[:, :, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            for i in range(kernel)
            for j in range(kernel)
        )


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "expansion", "size"),
    [
        pytest.param(8, 3, 1, 1, (5, 6), id="first stage"),
        pytest.param(8, 5, 1, 6, (4, 7), id="skip"),
        pytest.param(6, 5, 2, 6, (8, 8), id="even sizes pad (1, 2)"),
        pytest.param(6, 3, 2, 6, (7, 6), id="odd and even"),
        pytest.param(8, 3, 2, 6, (3, 3), id="stride without skip"),
    ],
)
def test_a_block_equals_numpy(channels, kernel, stride, expansion, size):
    block = MBConv(8, channels, kernel, stride, expansion, drop_rate=0.9)
    block.eval()
    state = random_weights(block)
    # so small that an epsilon of 1e-5 would give something else
    state |= {name: array * 1e-2 for name, array in state.items() if name.endswith("_variance")}
    block.set_state_dict(state)
    x = np.random.default_rng(3).normal(size=(2, 8, *size)).astype("float32")
    expected = NumpyMBConv(state, stride, skips=stride == 1 and channels == 8)(x)
    got = block(paddle.to_tensor(x)).numpy()
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("size", "before", "after"), [(56, 1, 2), (95, 2, 2)])
def test_the_padding_follows_the_size(b4, size, before, after):
    """Stage 3 of B4 halves with a 5x5 kernel: 56 pixels at an image size of 224, 95 at 380."""
    convolution = copy.deepcopy(b4._blocks[6]._depthwise_conv)
    convolution.weight.set_value(np.ones(convolution.weight.shape, "float32"))
    covered = convolution(paddle.ones([1, 192, size, size])).numpy()[0, 0]
    assert covered.shape == (math.ceil(size / 2),) * 2
    assert covered[0, 0] == (5 - before) ** 2
    assert covered[-1, -1] == (5 - after) ** 2
    assert covered[1, 1] == 25


def test_b4_has_the_size_of_the_published_one(b4):
    state = b4.state_dict()
    trained = [tensor for name, tensor in state.items() if not name.endswith(("._mean", "._variance"))]
    assert len(state) == 610
    assert sum(math.prod(tensor.shape) for tensor in trained) == 19_341_616
    assert all(not tensor.stop_gradient for tensor in trained)
    assert efficientnet.stage_repeats(1.8) == [2, 4, 4, 6, 6, 8, 2]


def test_b0_has_the_size_of_the_published_one():
    state = ARCHITECTURES["efficientnet_b0"](1000).state_dict()
    assert len(state) == 311
    assert sum(math.prod(t.shape) for n, t in state.items() if not n.endswith(("._mean", "._variance"))) == 5_288_548


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32 * 1.4, 48), (24 * 1.4, 32), (112 * 1.4, 160), (1280 * 1.4, 1792), (3, 8), (10, 16)]
)
def test_channels_are_rounded_as_in_the_release(channels, rounded):
    assert round_channels(channels) == rounded


@pytest.mark.parametrize(
    ("fixture", "channels", "features", "classes"),
    [("b0", (16, 24, 40, 112, 320), 1280, 5), ("b4", (24, 32, 56, 160, 448), 1792, 1000)],
)
def test_outputs_have_the_promised_shapes(request, images, fixture, channels, features, classes):
    network = request.getfixturevalue(fixture)
    outputs = network(paddle.to_tensor(images))
    assert [list(m.shape) for m in outputs.maps] == [[2, c, n, n] for c, n in zip(channels, (32, 16, 8, 4, 2))]
    assert list(outputs.features.shape) == [2, features]
    assert list(outputs.logits.shape) == [2, classes]


def test_the_last_map_is_the_last_blocks(b4, images):
    seen = []
    hook = b4._blocks[31].register_forward_post_hook(lambda layer, inputs, output: seen.append(output))
    outputs = b4(paddle.to_tensor(images[:1]))
    hook.remove()
    assert len(b4._blocks) == 32
    assert np.array_equal(outputs.maps[-1].numpy(), seen[0].numpy())


def test_the_head_reads_the_features(b0, images):
    assert isinstance(b0.head, nn.Linear)
    assert f"{b0.head_name}.weight" in b0.state_dict()
    outputs = b0(paddle.to_tensor(images))
    assert np.array_equal(outputs.logits.numpy(), b0.head(outputs.features).numpy())


def test_evaluation_draws_nothing(b0, images):
    logits = []
    for seed in (0, 1):
        paddle.seed(seed)
        logits.append(b0(paddle.to_tensor(images)).logits.numpy())
    assert np.array_equal(*logits)


def test_training_is_decided_by_the_seed(b0, images):
    network = copy.deepcopy(b0)
    network.train()
    logits = []
    for seed in (0, 0, 1):
        paddle.seed(seed)
        logits.append(network(paddle.to_tensor(images)).logits.numpy())
    assert np.array_equal(logits[0], logits[1])
    assert not np.allclose(logits[0], logits[2])


def test_drop_connect_drops_images_and_scales_the_rest():
    block = fixed(MBConv(8, 8, 3, 1, 6))
    block.train()
    x = paddle.to_tensor(np.random.default_rng(4).normal(size=(40, 8, 4, 4)).astype("float32"))
    paddle.seed(0)
    branch = (block(x) - x).numpy()
    block.drop_rate = 0.25
    dropped = (block(x) - x).numpy()
    kept = np.abs(dropped).max((1, 2, 3)) > 0
    assert 20 < kept.sum() < 40
    np.testing.assert_allclose(dropped[kept], branch[kept] / 0.75, rtol=1e-3, atol=1e-5)


def test_drop_connect_rises_with_the_block(b4):
    assert [block.drop_rate for block in b4._blocks] == [0.2 * i / 32 for i in range(32)]
    assert b4.dropout == 0.4


def test_dropout_acts_on_the_features_alone(b4, images):
    network = copy.deepcopy(b4)
    network.training = True  # the blocks stay in evaluation
    outputs, clean = network(paddle.to_tensor(images)), b4(paddle.to_tensor(images))
    assert all(np.array_equal(dropped.numpy(), kept.numpy()) for dropped, kept in zip(outputs.maps, clean.maps))
    features, whole = outputs.features.numpy(), clean.features.numpy()
    kept = features != 0
    assert 0.55 < kept.mean() < 0.65
    np.testing.assert_allclose(features[kept], whole[kept] / 0.6, rtol=1e-5)


def test_every_head_reads_the_same_dropout(b0, images):
    """SMILE's auxiliary head and Co-Tuning's source head; the authors of SMILE drop once, before both."""
    network = copy.deepcopy(b0)
    network.train()
    outputs = network(paddle.to_tensor(images))
    assert (outputs.features.numpy() == 0).any()
    assert np.array_equal(outputs.logits.numpy(), network.head(outputs.features).numpy())


def test_the_draw_of_the_dropout_is_that_of_the_logits_before(b0, images):
    """The order of the draws, and so every result but that of a second head, is the one of a dropout at the head."""
    network = copy.deepcopy(b0)
    network.training = True
    paddle.seed(5)
    logits = network(paddle.to_tensor(images)).logits
    features = b0(paddle.to_tensor(images)).features
    paddle.seed(5)
    assert np.array_equal(logits.numpy(), b0.head(paddle.nn.functional.dropout(features, 0.2)).numpy())


def test_what_is_pooled_is_the_last_map(b4, images):
    outputs = b4(paddle.to_tensor(images))
    assert list(b4.pooled(outputs).shape) == [2, 448]
    np.testing.assert_allclose(b4.pooled(outputs).numpy(), outputs.maps[-1].numpy().mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_running_statistics_move_by_a_hundredth(images):
    network = ARCHITECTURES["efficientnet_b0"](5)
    network.train()
    network(paddle.to_tensor(images))
    stem = network._conv_stem(paddle.to_tensor(images)).numpy()
    np.testing.assert_allclose(network._bn0._mean.numpy(), 0.01 * stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)


def test_convolutions_start_as_in_the_release():
    """N(0, 2 / fan-out), the fan-out of a depthwise kernel being its own pixels."""
    paddle.seed(0)
    block = MBConv(96, 64, 5, 1, 6)
    for convolution, variance in (
        (block._expand_conv, 2 / 576),
        (block._depthwise_conv, 2 / 25),
        (block._project_conv, 2 / 64),
    ):
        assert abs(convolution.weight.numpy().var() / variance - 1) < 0.1


def test_one_step_trains_every_tensor(images):
    paddle.seed(0)
    network = ARCHITECTURES["efficientnet_b0"](5)
    network.train()
    optimizer = paddle.optimizer.Momentum(1e-3, 0.9, parameters=network.parameters())
    x = paddle.to_tensor(np.concatenate([images] * 4))
    targets = paddle.nn.functional.one_hot(paddle.to_tensor([0, 1] * 4), 5)
    losses = []
    for _ in range(2):
        paddle.seed(7)
        loss = cross_entropy(network(x).logits, targets)
        loss.backward()
        losses.append(loss.item())
        trained = {name: p for name, p in network.named_parameters() if not p.stop_gradient}
        assert [name for name, p in trained.items() if p.grad is None or not np.isfinite(p.grad.numpy()).all()] == []
        optimizer.step()
        optimizer.clear_grad()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("size", [64, 97])
@pytest.mark.parametrize("fixture", ["b0", "b4"])
def test_torch_computes_the_same(request, fixture, size):
    torch = pytest.importorskip("torch", reason="torch is not installed: the independent computation needs it")
    F = torch.nn.functional
    network = request.getfixturevalue(fixture)
    state = {name: torch.from_numpy(tensor.numpy()) for name, tensor in network.state_dict().items()}

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        k = weight.shape[2]
        (top, bottom), (left, right) = same_padding(x.shape[2], k, stride), same_padding(x.shape[3], k, stride)
        groups = x.shape[1] // weight.shape[1]
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, groups=groups)

    def norm(name, x):
        leaves = (state[f"{name}.{leaf}"] for leaf in ("_mean", "_variance", "weight", "bias"))
        return F.batch_norm(x, *leaves, training=False, eps=1e-3)

    x = np.random.default_rng(2).normal(size=(1, 3, size, size)).astype("float32")
    outputs = network(paddle.to_tensor(x))
    x = F.silu(norm("_bn0", conv("_conv_stem", torch.from_numpy(x), 2)))
    depth = efficientnet.ARCHITECTURES[f"efficientnet_{fixture}"].arguments["depth"]
    strides = [
        stride if first else 1
        for count, stride in zip(efficientnet.stage_repeats(depth), STAGE_STRIDES)
        for first in [True] + [False] * (count - 1)
    ]
    for i, stride in enumerate(strides):
        block, inputs = f"_blocks.{i}", x
        if f"{block}._expand_conv.weight" in state:
            x = F.silu(norm(f"{block}._bn0", conv(f"{block}._expand_conv", x)))
        x = F.silu(norm(f"{block}._bn1", conv(f"{block}._depthwise_conv", x, stride)))
        squeezed = F.silu(conv(f"{block}._se_reduce", F.adaptive_avg_pool2d(x, 1)))
        x = torch.sigmoid(conv(f"{block}._se_expand", squeezed)) * x
        x = norm(f"{block}._bn2", conv(f"{block}._project_conv", x))
        x = x + inputs if x.shape == inputs.shape else x
    last_map = x.numpy()
    features = F.silu(norm("_bn1", conv("_conv_head", x))).mean((2, 3))
    logits = (features @ state["_fc.weight"] + state["_fc.bias"]).numpy()
    for got, expected in ((outputs.maps[-1], last_map), (outputs.features, features.numpy()), (outputs.logits, logits)):
        assert np.abs(got.numpy() - expected).max() < 1e-4 * np.abs(expected).max()

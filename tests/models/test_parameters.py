import numpy as np
import paddle
import pytest
from paddle import nn

from models import ARCHITECTURES, HEAD_NAMES, STAGED, build
from models.network import Architecture, Network
from models.outputs import Outputs
from models.parameters import (
    backbone_parameters,
    batch_norms,
    copy_backbone,
    depths,
    freeze,
    freeze_statistics,
    head_parameters,
    moving_statistics,
    set_momentum,
    trainable_parameters,
)

FAMILIES = ["resnet18", "resnet8", "mobilenet_v2", "efficientnet_b0"]


@pytest.mark.parametrize("arch", FAMILIES)
def test_backbone_and_head_are_the_state_dict(arch):
    network = build(arch, 3)
    backbone, head = backbone_parameters(network), head_parameters(network)
    assert not backbone.keys() & head.keys()
    assert set(head) == {f"{HEAD_NAMES[arch]}.weight", f"{HEAD_NAMES[arch]}.bias"}
    state = network.state_dict()
    assert list(state) == [name for name, _ in network.named_parameters()]
    assert {**backbone, **head}.keys() == state.keys()
    assert all(state[name] is tensor for name, tensor in {**backbone, **head}.items())


@pytest.mark.parametrize("arch", FAMILIES)
def test_batch_norms_own_the_tensors_that_are_not_trained(arch):
    network = build(arch, 3)
    statistics = {f"{name}.{leaf}" for name in batch_norms(network) for leaf in ("_mean", "_variance")}
    assert statistics
    assert statistics == network.state_dict().keys() - trainable_parameters(network).keys()
    assert list(batch_norms(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1D(2), nn.BatchNorm(2)))) == ["1", "2"]


def test_a_frozen_network_trains_nothing():
    network = build("resnet8", 3)
    assert freeze(network) is network
    assert not trainable_parameters(network)
    assert not any(layer.training for layer in network.sublayers(include_self=True))


def test_the_backbone_is_copied_and_the_head_is_not():
    source, model = build("resnet8", 5), build("resnet8", 3)
    source.bn1._mean.set_value(paddle.ones([16]))
    head = model.fc.weight.numpy().copy()
    copy_backbone(source, model)
    for name, tensor in backbone_parameters(source).items():
        assert np.array_equal(model.state_dict()[name].numpy(), tensor.numpy()), name
    assert np.array_equal(model.fc.weight.numpy(), head)
    source.bn1._mean.set_value(paddle.zeros([16]))
    assert model.bn1._mean.numpy().all()


def test_each_architecture_knows_its_stages_and_its_images():
    sizes = {name: architecture.image_size for name, architecture in ARCHITECTURES.items()}
    others = {"resnet8": 32, "resnet14": 32, "resnet20": 32, "efficientnet_b4": 380}
    others |= {"efficientnet_lite1": 240, "efficientnet_lite2": 260}
    assert sizes == {**dict.fromkeys(ARCHITECTURES, 224), **others}
    unstaged = {"mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "convnext_tiny"}
    unstaged |= {"efficientnet_b0", "efficientnet_b4", *(f"efficientnet_lite{n}" for n in range(3))}
    assert set(ARCHITECTURES) - set(STAGED) == unstaged | {"vit_small_patch16_224", "deit_small_patch16_224"}


FAMILIES = "resnet8 resnet20 resnet18 resnet50 resnext50_32x4d wide_resnet50_2 resnet18_vd resnet50_vd mobilenet_v2"
FAMILIES += " mobilenet_v3_large mobilenet_v3_small efficientnet_b0 efficientnet_lite2 convnext_tiny"


@pytest.mark.parametrize("arch", [*FAMILIES.split(), "vit_small_patch16_224"])
def test_an_architecture_says_how_much_its_head_reads(arch):
    with paddle.LazyGuard():  # draws no weights
        head = build(arch, 2).head
    assert ARCHITECTURES[arch].features == head.weight.shape[0]
    assert all(architecture.features for architecture in ARCHITECTURES.values())


def test_a_network_says_its_head_once():
    class Toy(Network, nn.Layer):
        head_name = "top.1"

        def __init__(self, num_classes):
            super().__init__()
            self.top = nn.Sequential(nn.ReLU(), nn.Linear(3, num_classes))

        def forward(self, images):
            features = images.mean(axis=[2, 3])
            return Outputs(self.top(features), features, (images,))

    toy = Architecture(Toy, {})(4)
    assert toy.head is toy.top[1]
    assert list(head_parameters(toy)) == ["top.1.weight", "top.1.bias"]
    assert toy(paddle.ones([2, 3, 4, 4])).logits.shape == [2, 4]


BLOCKS = {"resnet8": 3, "resnet20": 9, "resnet18": 8, "resnet50": 16, "resnet50_vd": 16, "mobilenet_v2": 19}
BLOCKS |= {"mobilenet_v3_small": 11, "mobilenet_v3_large": 15, "efficientnet_b0": 16, "efficientnet_lite0": 16}
BLOCKS |= {"convnext_tiny": 18, "vit_small_patch16_224": 12}


@pytest.mark.parametrize("arch", BLOCKS)
def test_depth_counts_the_blocks_from_the_head(arch):
    with paddle.LazyGuard():  # draws no weights
        network = build(arch, 2)
    found = depths(network)
    assert list(found) == [name for name, _ in network.named_parameters()]
    assert {name for name, depth in found.items() if depth == 0} == set(head_parameters(network))
    backbone = [found[name] for name in backbone_parameters(network)]
    assert backbone == sorted(backbone, reverse=True)  # from the images to the head
    stem = [] if arch == "mobilenet_v2" else [BLOCKS[arch] + 1]  # there the stem is a block
    assert sorted(set(backbone), reverse=True) == [*stem, *range(BLOCKS[arch], 0, -1)]


def test_depths_by_name():
    found = depths(build("resnet14", 2))
    expected = {"conv1.weight": 7, "bn1._mean": 7, "layer1.0.conv1.weight": 6, "layer1.1.bn2.bias": 5}
    expected |= {"layer2.0.conv1.weight": 4, "layer3.0.bn1.weight": 2, "layer3.1.conv2.weight": 1, "fc.bias": 0}
    assert {name: found[name] for name in expected} == expected
    with paddle.LazyGuard():
        found = depths(build("efficientnet_b0", 2))
        later = depths(build("convnext_tiny", 2))
    names = ("_conv_stem.weight", "_blocks.1._expand_conv.weight", "_blocks.15._bn2.weight", "_conv_head.weight")
    assert [found[name] for name in names] == [17, 15, 1, 1]
    names = ("stem.0.weight", "stages.0.blocks.2.gamma", "stages.1.downsample.1.weight", "stages.1.blocks.0.gamma")
    assert [later[name] for name in (*names, "norm.weight", "fc.bias")] == [19, 16, 16, 15, 1, 0]


def test_a_network_without_blocks_is_one_part():
    class Toy(Network, nn.Layer):
        head_name = "top"

        def __init__(self):
            super().__init__()
            self.below, self.top = nn.Linear(3, 3), nn.Linear(3, 2)

    assert set(depths(Toy()).values()) == {0, 1}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_architecture_says_whether_it_normalises_batches(arch):
    with paddle.LazyGuard():
        network = build(arch, 2)
    assert network.normalises_batches == bool(batch_norms(network))
    assert network.block_names


@pytest.mark.parametrize("arch", ["resnet8", "mobilenet_v2"])
def test_frozen_statistics_are_used_and_kept_in_training_mode(arch):
    paddle.seed(0)
    network = build(arch, 3)
    network.train()
    for _ in range(2):
        network(paddle.randn([4, 3, 32, 32]) + 1)
    images = paddle.randn([4, 3, 32, 32])
    freeze_statistics(network)
    network.train()  # does not undo it
    before = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    outputs = network(images)
    assert all(np.array_equal(before[name], tensor.numpy()) for name, tensor in network.state_dict().items())
    assert not moving_statistics(network)
    (outputs.maps[-1] ** 2).sum().backward()
    layers = batch_norms(network)
    gradients = [layers[name].weight.grad for name in layers]
    assert all(gradient is not None and np.abs(gradient.numpy()).max() > 0 for gradient in gradients)
    network.eval()
    np.testing.assert_array_equal(outputs.maps[-1].numpy(), network(images).maps[-1].numpy())


def test_the_gradient_under_frozen_statistics_is_that_of_an_affine_map():
    """In float64: y = scale (x - mean) / sqrt(variance + eps) + shift, mean and variance constant."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(4, 3, 5, 5)), rng.normal(size=(4, 3, 5, 5))
    mean, variance, scale = rng.normal(size=3), rng.uniform(0.5, 2, 3), rng.normal(size=3)
    network = nn.Sequential(nn.BatchNorm2D(3))
    for tensor, value in ((network[0]._mean, mean), (network[0]._variance, variance), (network[0].weight, scale)):
        tensor.set_value(value.astype("float32"))
    freeze_statistics(network)
    network.train()
    images = paddle.to_tensor(x.astype("float32"), stop_gradient=False)
    (network(images) * paddle.to_tensor(weights.astype("float32"))).sum().backward()
    deviation = np.sqrt(variance + 1e-5).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(images.grad.numpy(), weights * scale.reshape(1, 3, 1, 1) / deviation, rtol=1e-5)
    normalised = (x - mean.reshape(1, 3, 1, 1)) / deviation
    np.testing.assert_allclose(network[0].weight.grad.numpy(), (weights * normalised).sum(axis=(0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(network[0].bias.grad.numpy(), weights.sum(axis=(0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_the_momentum_is_the_share_of_the_old_statistics(momentum):
    network = nn.Sequential(nn.BatchNorm2D(3))
    network[0]._mean.set_value(np.array([1.0, 2.0, 3.0], "float32"))
    set_momentum(network, momentum)
    x = np.random.default_rng(0).normal(size=(6, 3, 2, 2)).astype("float32")
    assert len(moving_statistics(network)) == 2
    network(paddle.to_tensor(x))
    expected = momentum * np.array([1.0, 2.0, 3.0]) + (1 - momentum) * x.astype("float64").mean(axis=(0, 2, 3))
    np.testing.assert_allclose(network[0]._mean.numpy(), expected, rtol=1e-5, atol=1e-6)

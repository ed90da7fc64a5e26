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
    freeze,
    head_parameters,
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

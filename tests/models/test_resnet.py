import paddle
import paddle.vision.models as vision
import pytest

from models import ARCHITECTURES, HEAD_NAMES, build
from models.resnet_cifar import Shortcut


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_names_and_outputs_are_paddle_visions(arch):
    ours, theirs = build(arch, 5), getattr(vision, arch)(num_classes=5)
    assert [(name, list(t.shape)) for name, t in ours.state_dict().items()] == [
        (name, list(t.shape)) for name, t in theirs.state_dict().items()
    ]
    theirs.set_state_dict(ours.state_dict())
    ours.eval(), theirs.eval()
    images = paddle.randn([2, 3, 64, 64])
    assert paddle.equal_all(ours(images).logits, theirs(images))


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet8", "resnet14", "resnet20"])
def test_maps_pool_into_features_and_features_into_logits(arch):
    network = build(arch, 5)
    network.eval()
    outputs = network(paddle.randn([2, 3, 64, 64]))
    assert paddle.allclose(outputs.maps[-1].mean(axis=[2, 3]), outputs.features, atol=1e-5)
    assert paddle.allclose(network.head(outputs.features), outputs.logits)
    sides = [m.shape[-1] for m in outputs.maps]
    assert sides == sorted(sides, reverse=True)
    assert f"{network.head_name}.weight" in network.state_dict()
    assert HEAD_NAMES[arch] == network.head_name


@pytest.mark.parametrize(("depth", "parameters"), [(8, 75_290), (14, 172_506), (20, 269_722)])
def test_cifar_depths_have_the_papers_size(depth, parameters):
    network = build(f"resnet{depth}", 10)
    trained = [p for p in network.parameters() if not p.stop_gradient]
    assert sum(p.size for p in trained) == parameters
    convolutions = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    assert len(convolutions) + 1 == depth


def test_the_shortcut_takes_every_second_pixel_and_pads_channels():
    x = paddle.randn([2, 3, 5, 5])
    y = Shortcut(4)(x)
    assert list(y.shape) == [2, 7, 3, 3]
    assert paddle.equal_all(y[:, :3], x[:, :, ::2, ::2])
    assert y[:, 3:].abs().sum().item() == 0


def test_every_architecture_can_be_built_and_named():
    assert set(ARCHITECTURES) == set(HEAD_NAMES)
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet8"} <= set(ARCHITECTURES)

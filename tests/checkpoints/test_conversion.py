import csv
import re
from pathlib import Path

import numpy as np
import paddle
import pytest

from checkpoints import conversion
from checkpoints.checkpoint import load_exactly
from models import build, efficientnet, mobilenet, resnet
from tests.models.random_weights import random_weights
from utils.errors import WeightsError

ARCHITECTURES = {**resnet.ARCHITECTURES, **efficientnet.ARCHITECTURES, **mobilenet.ARCHITECTURES}
SCHEMES = ("lukemelas", "timm", "torchvision", "paddleclas_2.6.0")

with open(Path(__file__).with_name("efficientnet_b4_names.csv"), newline="") as file:
    B4_NAMES = list(csv.DictReader(file))  # written from the sources of the four projects


def from_torch(name):
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def to_torch(ours):
    """Return a state as torchvision saves it, from paddle's names and layout."""
    foreign = {}
    for name, array in ours.items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        foreign[name] = array.T.copy() if array.ndim == 2 else array
        if name.endswith(".running_var"):
            foreign[name.replace("running_var", "num_batches_tracked")] = np.array(7, "int64")
    return foreign


def to_paddleclas(name):
    """Return PaddleClas's name of a weight of our resnet50."""
    name = re.sub(r"^(conv|bn)1\.", r"stem.0.\1.", name)
    name = re.sub(r"^layer(\d)\.(\d)", lambda m: f"blocks.{(0, 3, 7, 13)[int(m[1]) - 1] + int(m[2])}", name)
    name = re.sub(r"\.downsample\.([01])\.", lambda m: f".short.{('conv', 'bn')[int(m[1])]}.", name)
    return re.sub(r"^(blocks\.\d+)\.(conv|bn)([123])\.", lambda m: f"{m[1]}.conv{int(m[3]) - 1}.{m[2]}.", name)


def assert_loads(foreign, arch, expected):
    """Loading `foreign` gives exactly `expected`, in a network that started elsewhere."""
    head = expected[max(name for name in expected if expected[name].ndim == 2)]
    network = ARCHITECTURES[arch](head.shape[1])
    load_exactly(network, conversion.to_ours(foreign, arch), "the file")
    state = network.state_dict()
    assert set(state) == set(expected)
    assert all(np.array_equal(tensor.numpy(), expected[name]) for name, tensor in state.items())


@pytest.fixture(scope="module")
def b4():
    return random_weights(ARCHITECTURES["efficientnet_b4"](1000))


@pytest.fixture(scope="module")
def resnet50():
    return random_weights(ARCHITECTURES["resnet50"](365))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_efficientnet_b4_loads_under_every_naming(b4, scheme):
    foreign = {}
    for row in B4_NAMES:
        array = b4[from_torch(row["lukemelas"])]
        foreign[row[scheme]] = array.T.copy() if array.ndim == 2 and "paddleclas" not in scheme else array
        if row[scheme].endswith(".running_var"):
            foreign[row[scheme].replace("running_var", "num_batches_tracked")] = np.array(7, "int64")
    assert len(foreign) == 610 + (96 if "paddleclas" not in scheme else 0)
    assert_loads(foreign, "efficientnet_b4", b4)


def test_efficientnet_b4_has_the_published_shapes(b4):
    for row in B4_NAMES:
        shape = [int(n) for n in row["torch_shape"].split("x")]
        expected = shape[::-1] if row["transpose_for_paddle"] == "1" else shape
        assert list(b4[from_torch(row["lukemelas"])].shape) == expected


@pytest.mark.parametrize("scheme", SCHEMES[1:3])
def test_every_name_of_efficientnet_b0_is_known(scheme):
    """B0 has the names of B4, but for the blocks it does not have."""
    repeats, ours = efficientnet.stage_repeats(1.0), set(ARCHITECTURES["efficientnet_b0"](1000).state_dict())
    names = []
    for row in B4_NAMES:
        place = re.match(r"blocks\.(\d)\.(\d)\.", row["timm"])
        if not place or int(place[2]) < repeats[int(place[1])]:
            names.append(row[scheme])
    renamed = conversion.renaming(names, "efficientnet_b0")
    assert len(renamed) == len(ours) == 311
    assert set(renamed.values()) == ours


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("blocks.1.0.conv_pw.weight", "_blocks.1._expand_conv.weight"),
        ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
        ("blocks.6.0.bn3.running_var", "_blocks.15._bn2._variance"),
        ("features.7.0.block.3.1.bias", "_blocks.15._bn2.bias"),
        ("_ef._blocks.15.._se._conv2._conv.bias", "_blocks.15._se_expand.bias"),
        ("module._blocks.15._bn2.running_mean", "_blocks.15._bn2._mean"),
    ],
)
def test_names_of_efficientnet_b0(foreign, ours):
    assert conversion.renaming([foreign], "efficientnet_b0") == {foreign: ours}


@pytest.mark.parametrize("prefix", ["", *conversion._PREFIXES, "module._orig_mod."])
def test_torchvisions_mobilenet_v3_is_known_inside_every_wrapper(prefix):
    expected = {
        "features.0.0.weight": "conv.0.weight",
        "features.1.block.0.0.weight": "blocks.0.bottleneck_conv.0.weight",
        "features.1.block.1.0.weight": "blocks.0.linear_conv.0.weight",
        "features.4.block.0.0.weight": "blocks.3.expand_conv.0.weight",
        "features.4.block.1.1.running_mean": "blocks.3.bottleneck_conv.1._mean",
        "features.4.block.2.fc1.weight": "blocks.3.mid_se.fc1.weight",
        "features.4.block.2.fc2.bias": "blocks.3.mid_se.fc2.bias",
        "features.4.block.3.0.weight": "blocks.3.linear_conv.0.weight",
        "features.16.1.bias": "lastconv.1.bias",
    }
    wrapped = {prefix + foreign: ours for foreign, ours in expected.items()}
    assert conversion.renaming(wrapped, "mobilenet_v3_large") == wrapped


def test_resnet50_loads_from_torch(resnet50):
    foreign = to_torch(resnet50)
    assert len(foreign) == 320
    assert foreign["fc.weight"].shape == (365, 2048)
    assert_loads(foreign, "resnet50", resnet50)


def test_places365_loads_without_its_prefix(resnet50):
    foreign = {f"module.{name}": array for name, array in to_torch(resnet50).items()}
    assert_loads(foreign, "resnet50", resnet50)


def test_resnet50_loads_from_paddleclas(resnet50):
    foreign = {to_paddleclas(name): array for name, array in resnet50.items()}
    assert {"stem.0.conv.weight", "blocks.3.short.bn._mean", "blocks.15.conv2.conv.weight", "fc.bias"} < set(foreign)
    assert_loads(foreign, "resnet50", resnet50)


@pytest.mark.parametrize("arch", ["mobilenet_v2", "resnet18"])
def test_others_load_from_torch(arch):
    ours = random_weights(ARCHITECTURES[arch](4))
    assert_loads(to_torch(ours), arch, ours)


@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0", "efficientnet_b4"])
def test_our_own_names_and_arrays_stay(arch):
    ours = {name: np.zeros([2, 3], "float32") for name in ARCHITECTURES[arch](4).state_dict()}
    same = conversion.to_ours(ours, arch)
    assert list(same) == list(ours)
    assert all(same[name] is ours[name] for name in ours)


def test_a_square_matrix_is_transposed_only_from_torch():
    square = np.arange(4, dtype="float32").reshape(2, 2)
    assert np.array_equal(conversion.to_ours({"fc.weight": square}, "resnet50")["fc.weight"], square)
    torch_style = {"fc.weight": square, "bn1.running_mean": np.zeros(2)}
    assert np.array_equal(conversion.to_ours(torch_style, "resnet50")["fc.weight"], square.T)


def test_only_a_leading_module_is_stripped():
    names = ["module.layer1.module.weight", "modules.fc.bias", "epoch"]
    assert list(conversion.renaming(names, "resnet50").values()) == ["layer1.module.weight", "modules.fc.bias", "epoch"]


def test_a_misnamed_weight_is_reported_by_both_names():
    network = ARCHITECTURES["efficientnet_b0"](4)
    foreign = to_torch(random_weights(network))
    foreign["blocks.9.9.conv_dw.weight"] = foreign.pop("_blocks.3._depthwise_conv.weight")
    with pytest.raises(WeightsError, match=r"missing: _blocks\.3\._depthwise_conv\.weight.*blocks\.9\.9\.conv_dw"):
        load_exactly(network, conversion.to_ours(foreign, "efficientnet_b0"), "the file")


def test_the_extra_shortcut_of_paddleclas_resnet18_is_visible():
    assert conversion.renaming(["blocks.0.short.conv.weight"], "resnet18") == {
        "blocks.0.short.conv.weight": "layer1.0.downsample.0.weight"
    }


def test_two_names_of_one_weight_are_refused():
    with pytest.raises(WeightsError, match=r"conv_stem\.weight and _conv_stem\.weight are both _conv_stem\.weight"):
        conversion.renaming(["conv_stem.weight", "_conv_stem.weight"], "efficientnet_b4")


def test_torch_computes_the_same_resnet50(resnet50):
    torch = pytest.importorskip("torch", reason="torch is not installed: the independent computation needs it")
    F = torch.nn.functional
    foreign = to_torch(resnet50)
    state = {name: torch.from_numpy(array) for name, array in foreign.items()}

    def conv_norm(conv, norm, x, stride=1):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        leaves = (state[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *leaves, training=False)

    images = np.random.default_rng(2).normal(size=(1, 3, 64, 64)).astype("float32")
    x = F.relu(conv_norm("conv1", "bn1", torch.from_numpy(images), stride=2))
    x = F.max_pool2d(x, 3, 2, padding=1)
    for layer, count in zip((1, 2, 3, 4), (3, 4, 6, 3)):
        for i in range(count):
            block, shortcut = f"layer{layer}.{i}", x
            stride = 2 if layer > 1 and i == 0 else 1
            x = F.relu(conv_norm(f"{block}.conv1", f"{block}.bn1", x))
            x = F.relu(conv_norm(f"{block}.conv2", f"{block}.bn2", x, stride))
            x = conv_norm(f"{block}.conv3", f"{block}.bn3", x)
            if i == 0:
                shortcut = conv_norm(f"{block}.downsample.0", f"{block}.downsample.1", shortcut, stride)
            x = F.relu(x + shortcut)
    expected = F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"]).numpy()

    network = ARCHITECTURES["resnet50"](365)
    load_exactly(network, conversion.to_ours(foreign, "resnet50"), "the file")
    network.eval()
    got = network(paddle.to_tensor(images)).logits.numpy()
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("arch", ["convnext_tiny", "vit_small_patch16_224"])
@pytest.mark.parametrize("torch", [True, False])
def test_without_batch_normalisation_the_mlp_tells_the_layout(arch, torch):
    """Square matrices too: a projection of attention has no form of its own."""
    ours = {
        name: array for name, array in random_weights(build(arch, 5)).items() if "blocks.0" in name or "fc." in name
    }
    foreign = {
        ("head.fc" if arch.startswith("conv") else "head") + name[2:] if name.startswith("fc.") else name: (
            array.T if torch and array.ndim == 2 else array
        )
        for name, array in ours.items()
    }
    converted = conversion.to_ours(foreign, arch)
    assert converted.keys() == ours.keys()
    assert all(np.array_equal(converted[name], array) for name, array in ours.items())


def test_resnet_vd_loads_from_paddleclas():
    ours = random_weights(build("resnet18_vd", 5))
    stem = {"conv1.0": "0.conv", "conv1.1": "0.bn", "conv1.3": "1.conv", "conv1.4": "1.bn", "conv1.6": "2.conv"}
    block = {"conv1": "conv0.conv", "bn1": "conv0.bn", "conv2": "conv1.conv", "bn2": "conv1.bn"}
    block |= {"downsample.1": "short.conv", "downsample.2": "short.bn"}
    foreign = {}
    for name, array in ours.items():
        module, leaf = name.rsplit(".", 1)
        place = re.match(r"layer(\d)\.(\d)\.(.*)", module)
        if place:
            module = f"blocks.{2 * int(place[1]) - 2 + int(place[2])}.{block[place[3]]}"
        elif module != "fc":
            module = f"stem.{stem.get(module, '2.bn')}"
        foreign[f"{module}.{leaf}"] = array
    converted = conversion.to_ours(foreign, "resnet18_vd")
    assert converted.keys() == ours.keys()
    assert all(converted[name] is array for name, array in ours.items())


def test_convnext_loads_under_its_authors_names():
    names = [
        "downsample_layers.0.1.bias",
        "downsample_layers.3.1.weight",
        "stages.2.8.gamma",
        "stages.2.8.pwconv2.bias",
        "norm.weight",
        "head.bias",
    ]
    assert list(conversion.renaming(names, "convnext_tiny").values()) == [
        "stem.1.bias",
        "stages.3.downsample.1.weight",
        "stages.2.blocks.8.gamma",
        "stages.2.blocks.8.mlp.fc2.bias",
        "norm.weight",
        "fc.bias",
    ]

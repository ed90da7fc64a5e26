"""Methods run on every network, whatever its layers are."""

import numpy as np
import paddle
import pytest

from models import STAGED, build
from models.network import Architecture
from models.vit import resampling
from regularizers import create
from tests.regularizers.toys import arrays, toy_setup, train
from training.options import Options
from utils.errors import UsageError

NETWORKS = [
    "efficientnet_lite0",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18_vd",
    "convnext_tiny",
    "vit_small_patch16_224",
]


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize("method", ["smile", "l2"])
def test_two_updates(arch, method):
    settings = {"clean_tail": 0} if method == "smile" else {}
    setup = toy_setup(arch=arch, steps=2, count=4, side=32)
    regularizer = create(method, **settings)
    regularizer.prepare(setup)
    before = arrays(setup.model)
    terms = train(setup, regularizer, 2)
    assert all(np.isfinite(value) for value in terms.values())
    assert method == "l2" or {"fea", "aux"} <= terms.keys()
    changed = {name for name, array in arrays(setup.model).items() if not np.array_equal(array, before[name])}
    assert len(changed) > 0.8 * len(before)  # of some the gradient is 0: biases before a normalisation


@pytest.mark.parametrize("arch", sorted({*NETWORKS, "resnet50_vd"} - {"efficientnet_lite0"}))
def test_head_and_features_are_those_of_the_outputs(arch):
    network = build(arch, 5)
    network.eval()
    outputs = network(paddle.randn([2, 3, 64, 64]))
    assert paddle.allclose(network.head(outputs.features), outputs.logits)
    sides = [m.shape[-1] for m in outputs.maps]
    assert sides == sorted(set(sides), reverse=True)
    assert sides[-1] == (4 if "patch16" in arch else 2)
    assert (arch in STAGED) == arch.endswith("_vd")


@pytest.mark.parametrize("arch", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_every_head_of_mobilenet_v3_reads_the_same_dropout(arch):
    network = build(arch, 5)
    network.eval()
    network.classifier.train()  # its dropout alone differs between the modes
    outputs = network(paddle.randn([2, 3, 64, 64]))
    assert 0.1 < (outputs.features == 0).numpy().mean() < 0.3
    assert paddle.equal_all(network.head(outputs.features), outputs.logits)


def test_positions_of_the_own_size_are_not_resampled():
    np.testing.assert_array_equal(resampling(14, 14), np.eye(14))
    np.testing.assert_allclose(resampling(14, 6).sum(axis=1), np.ones(6), atol=1e-6)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UsageError, match="--image_size 31: accepted with convnext_tiny is 32 or more"):
        Options.of({"train_dir": "x", "model_arch": "convnext_tiny", "image_size": 31, "pretrained": "none"})


def test_a_method_that_needs_stages_refuses_a_network_without():
    with pytest.raises(UsageError, match="--regularizer delta --model_arch convnext_tiny: accepted are resnet18"):
        Options.of({"train_dir": "x", "regularizer": "delta", "model_arch": "convnext_tiny"})


def test_an_architecture_without_variants_has_its_own_settings_alone():
    with pytest.raises(KeyError):
        Architecture(dict, {})(3, "symmetric")

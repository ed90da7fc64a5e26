from types import SimpleNamespace

import numpy as np
import paddle
import pytest

import models
from regularizers.bss import BSS, smallest_singular_values


def value_and_gradient(features, k=1):
    x = paddle.to_tensor(features, "float32", stop_gradient=False)
    value = smallest_singular_values(x, k)
    value.backward()
    assert list(value.shape) == []
    assert value.dtype == paddle.float32
    return value.item(), x.grad.numpy()


def reference(features, k=1):
    features = np.asarray(features, "float32").astype("float64")
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    k = min(k, len(s))
    return (s[-k:] ** 2).sum(), 2 * (u[:, -k:] * s[-k:]) @ vt[-k:]


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(size, seed=1):
    return np.linalg.qr(matrix(size, size, seed=seed))[0]


@pytest.mark.parametrize("shape, k", [((48, 256), 1), ((48, 256), 5), ((100, 64), 3), ((7, 7), 1), ((2, 300), 1)])
def test_value_and_gradient_are_those_of_the_singular_value_decomposition(shape, k):
    features = matrix(*shape)
    value, gradient = value_and_gradient(features, k)
    expected, expected_gradient = reference(features, k)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5 * np.abs(expected_gradient).max())


def test_features_after_a_relu_share_one_large_direction():
    features = np.maximum(matrix(48, 512), 0) * 30
    value, gradient = value_and_gradient(features)
    expected, expected_gradient = reference(features)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5 * np.abs(expected_gradient).max())


@pytest.mark.parametrize("shape, k", [((7, 7), 10), ((5, 9), 5), ((9, 5), 6), ((1, 6), 1), ((6, 1), 3)])
def test_as_many_as_there_are_make_the_frobenius_norm(shape, k):
    features = matrix(*shape).astype("float32")
    value, gradient = value_and_gradient(features, k)
    assert value == pytest.approx((features.astype("float64") ** 2).sum(), rel=1e-6)
    np.testing.assert_allclose(gradient, 2 * features, rtol=1e-5, atol=1e-6)


def test_duplicated_images_cost_nothing():
    features = matrix(6, 20)
    features[3] = features[1]
    value, gradient = value_and_gradient(features)
    assert value == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_repeated_singular_values_are_finite():
    value, gradient = value_and_gradient(np.eye(5))
    assert value == pytest.approx(1)
    assert np.isfinite(gradient).all()
    assert np.linalg.norm(gradient) == pytest.approx(2)  # 2 s u v^T for some pair of unit vectors


def test_zeros_have_value_and_gradient_zero():
    value, gradient = value_and_gradient(np.zeros((4, 9)), k=2)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_makes_the_value_so(hole):
    features = matrix(4, 9)
    features[2, 3] = hole
    assert not np.isfinite(smallest_singular_values(paddle.to_tensor(features, "float32"), 1).item())


def test_rotations_on_either_side_change_nothing():
    features = matrix(8, 12)
    value = value_and_gradient(features, k=2)[0]
    assert value_and_gradient(rotation(8) @ features, k=2)[0] == pytest.approx(value, rel=1e-5)
    assert value_and_gradient(features @ rotation(12), k=2)[0] == pytest.approx(value, rel=1e-5)


def test_the_value_is_homogeneous_of_degree_two():
    features = matrix(8, 12)
    assert value_and_gradient(3 * features)[0] == pytest.approx(9 * value_and_gradient(features)[0], rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    features = matrix(5, 8).astype("float32").astype("float64")
    gradient = value_and_gradient(features)[1]
    for at in ((0, 0), (2, 5), (4, 7)):
        step = np.zeros_like(features)
        step[at] = 1e-6
        difference = (reference_in_double(features + step) - reference_in_double(features - step)) / 2e-6
        assert gradient[at] == pytest.approx(difference, abs=1e-5)


def reference_in_double(features):
    return np.linalg.svd(features, compute_uv=False)[-1] ** 2


def test_the_term_is_weighted_and_reaches_the_backbone_alone():
    model = models.build("resnet8", 4)
    outputs = model(paddle.to_tensor(matrix(6, 3, 16, 16), "float32"))
    method = BSS(bss_lambda=0.25, bss_k=2)
    terms = method.loss(model, SimpleNamespace(mix=None), outputs, 0)
    assert tuple(terms) == BSS().requirements().terms
    assert terms["bss"].item() == pytest.approx(0.25 * reference(outputs.features.numpy(), 2)[0], rel=1e-5)
    terms["bss"].backward()
    assert all(p.grad is None for p in model.head.parameters())
    for tensor in (model.conv1.weight, model.bn1.weight, model.layer3[0].conv2.weight):
        assert np.abs(tensor.grad.numpy()).max() > 0


@pytest.mark.parametrize("arch", ["resnet8", "resnet18", "resnet18_vd"])
def test_a_resnets_features_are_decomposed_as_they_are(arch):
    model = models.build(arch, 4)
    outputs = model(paddle.to_tensor(matrix(2, 3, 32, 32), "float32"))
    assert model.pooled(outputs) is outputs.features


HEADS = {  # the layers between the last map and the logits
    "efficientnet_b0": "_conv_head _bn1 _fc",
    "mobilenet_v2": "classifier",
    "mobilenet_v3_small": "classifier",
    "convnext_tiny": "norm fc",
    "vit_small_patch16_224": "fc",
}


@pytest.mark.parametrize("arch", list(HEADS))
def test_of_another_network_the_pooled_last_map_is_decomposed(arch):
    model = models.build(arch, 4)
    model.train()
    paddle.seed(0)
    outputs = model(paddle.to_tensor(matrix(4, 3, 32, 32), "float32"))
    pooled = outputs.maps[-1].numpy().astype("float64").mean((2, 3))
    term = BSS(bss_lambda=0.25, bss_k=2).loss(model, SimpleNamespace(mix=None), outputs, 0)["bss"]
    assert term.item() == pytest.approx(0.25 * reference(pooled, 2)[0], rel=1e-3)
    term.backward()
    head = tuple(HEADS[arch].split())
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith(head))


def test_defaults_and_ranges():
    assert (BSS().bss_lambda, BSS().bss_k) == (0.001, 1)
    assert BSS().state_dict() == {}
    with pytest.raises(ValueError, match="--bss_k 0"):
        BSS(bss_k=0)
    for value in (-1.0, np.nan):
        with pytest.raises(ValueError, match="--bss_lambda"):
            BSS(bss_lambda=value)

import numpy as np
import paddle
import pytest

from regularizers.losses import cross_entropies, cross_entropy, frobenius_norm


def expected(logits, targets):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -(targets * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))).sum(axis=1)


@pytest.mark.parametrize("scale", [1.0, 30.0, 400.0])
def test_cross_entropy_against_numpy(scale):
    rng = np.random.default_rng(0)
    logits, targets = scale * rng.normal(size=(7, 9)), rng.dirichlet(np.ones(9), size=7)
    tensors = (paddle.to_tensor(x.astype("float32")) for x in (logits, targets))
    values = cross_entropies(*tensors).numpy()
    np.testing.assert_allclose(values, expected(logits, targets), rtol=1e-5)


def test_a_very_wrong_image_costs_what_it_should():
    logits = paddle.to_tensor([[200.0, 0.0]])
    assert cross_entropy(logits, paddle.to_tensor([[0.0, 1.0]])).item() == 200


def test_the_gradient_is_softmax_minus_target():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), size=5)
    tensor = paddle.to_tensor(logits.astype("float32"), stop_gradient=False)
    cross_entropy(tensor, paddle.to_tensor(targets.astype("float32"))).backward()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(tensor.grad.numpy(), (softmax - targets) / 5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (8, 512, 7, 7)])
def test_norm_and_gradient_against_numpy(shape):
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    x = paddle.to_tensor(values, stop_gradient=False)
    norm = frobenius_norm(x)
    norm.backward()
    exact = np.linalg.norm(values.astype("float64"))
    assert norm.item() == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), values / exact, rtol=1e-4, atol=1e-9)


def test_norm_at_zero():
    x = paddle.zeros([2, 3])
    x.stop_gradient = False
    norm = frobenius_norm(x)
    norm.backward()
    assert norm.item() == 0
    assert np.all(x.grad.numpy() == 0)

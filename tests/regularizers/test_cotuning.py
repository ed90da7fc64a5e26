"""Co-Tuning's term against NumPy in float64, its second head, and the matrix it keeps."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models.outputs import Outputs
from regularizers import create, relationship
from regularizers.cotuning import CoTuning
from regularizers.mixup import mix_batch
from tests.regularizers.toys import arrays, optimizer_of, same, toy_batch, toy_setup, train


def prepared(tmp_path, **arguments):
    setup = toy_setup(tmp_path)
    method = CoTuning(**arguments)
    method.prepare(setup)
    return setup, method


def log_softmax(x):
    x = np.asarray(x, "float64")
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def in_numpy(setup, method, temperature):
    """Return the matrix R of the direct relationship, float64 [K, K_s]."""
    logits = setup.source(paddle.to_tensor(setup.train.images)).logits.numpy()
    probabilities = np.exp(log_softmax(temperature * logits))
    return np.stack([probabilities[setup.train.labels == label].mean(axis=0) for label in range(4)])


@pytest.mark.parametrize("mixed", [False, True])
def test_the_term_equals_numpy(tmp_path, mixed):
    setup, method = prepared(tmp_path, cot_lambda=0.7, temperature=1.3)
    train(setup, method, 3)
    clean = toy_batch(setup)
    batch = mix_batch(clean, np.random.default_rng(0), 1.0) if mixed else clean
    outputs = setup.model(batch.images)
    [(name, term)] = method.loss(setup.model, batch, outputs, 3).items()
    matrix, labels = in_numpy(setup, method, 1.3), clean.targets.numpy().argmax(axis=1)
    np.testing.assert_allclose(method.source_classes.numpy(), matrix, rtol=1e-4)
    target = matrix[labels]
    if mixed:
        target = batch.mix.ratio * target + (1 - batch.mix.ratio) * target[batch.mix.partner.numpy()]
    weight, bias = (p.numpy().astype("float64") for p in method.source_head.parameters())
    logits = outputs.features.numpy().astype("float64") @ weight + bias
    assert name == "cot"
    assert term.item() == pytest.approx(-0.7 * (target * log_softmax(logits)).sum(axis=1).mean(), rel=1e-5)


def test_the_gradient_of_the_source_logits(tmp_path):
    setup, method = prepared(tmp_path, cot_lambda=2.3)
    batch = toy_batch(setup)
    logits = paddle.randn([8, 10])
    logits.stop_gradient = False
    method.source_head = nn.Identity()
    method.loss(setup.model, batch, Outputs(None, logits, ()), 0)["cot"].backward()
    target = in_numpy(setup, method, method.temperature)[batch.targets.numpy().argmax(axis=1)]
    expected = 2.3 * (np.exp(log_softmax(logits.numpy())) - target) / 8
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_least_value_is_the_entropy_of_the_rows(tmp_path):
    setup, method = prepared(tmp_path, cot_lambda=1.0)
    batch = toy_batch(setup)
    rows = method.source_classes.numpy()[batch.targets.numpy().argmax(axis=1)].astype("float64")
    method.source_head = nn.Identity()
    logits = paddle.to_tensor(np.log(rows), "float32", stop_gradient=False)
    term = method.loss(setup.model, batch, Outputs(None, logits, ()), 0)["cot"]
    term.backward()
    assert term.item() == pytest.approx(-(rows * np.log(rows)).sum(axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(logits.grad.numpy(), 0, atol=1e-6)


def test_the_second_head_starts_as_the_pretrained_one_and_is_trained(tmp_path):
    setup, method = prepared(tmp_path)
    source = arrays(setup.source)
    for name, tensor in method.source_head.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), source[f"fc.{name}"])
        assert not tensor.stop_gradient
    assert sorted(method.state_dict()) == ["source_classes", "source_head.bias", "source_head.weight"]
    assert "regularizer.source_head.weight" in optimizer_of(setup, method).parameters
    train(setup, method, 2)
    assert (method.source_head.weight.numpy() != source["fc.weight"]).any()
    assert same(arrays(setup.source), source)


def test_the_gradient_reaches_the_backbone_but_not_the_target_head(tmp_path):
    setup, method = prepared(tmp_path)
    batch = toy_batch(setup)
    method.loss(setup.model, batch, setup.model(batch.images), 0)["cot"].backward()
    assert np.abs(setup.model.conv1.weight.grad.numpy()).max() > 0
    assert setup.model.fc.weight.grad is None
    assert all(tensor.grad is None for tensor in setup.source.parameters())


def test_a_weight_of_zero_is_plain_fine_tuning(tmp_path):
    setup, method = prepared(tmp_path, cot_lambda=0.0)
    plain = toy_setup(tmp_path)
    train(setup, method, 3)
    train(plain, create("l2"), 3)
    assert same(arrays(setup.model), arrays(plain.model))


@pytest.mark.parametrize("kind", ["direct", "reverse"])
def test_the_matrix_is_measured_once(tmp_path, kind, monkeypatch):
    first = prepared(tmp_path, relationship=kind)[1].source_classes.numpy()
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-6)
    monkeypatch.setattr(relationship, "source_probabilities", None)  # measuring would fail
    np.testing.assert_array_equal(prepared(tmp_path, relationship=kind)[1].source_classes.numpy(), first)
    with pytest.raises(TypeError):
        prepared(tmp_path, relationship=kind, temperature=0.5)


def test_the_two_ways_differ(tmp_path):
    ways = [prepared(tmp_path, relationship=kind)[1].source_classes.numpy() for kind in ("direct", "reverse")]
    assert np.abs(ways[0] - ways[1]).max() > 1e-3


def test_defaults_and_ranges():
    method = CoTuning()
    assert (method.cot_lambda, method.relationship, method.temperature) == (2.3, "direct", 0.8840456604957581)
    assert method.requirements().source
    assert method.requirements().backbone == "regularized"
    for arguments, message in (
        ({"cot_lambda": -1.0}, "--cot_lambda -1.0: accepted are numbers from 0 upwards"),
        ({"relationship": "both"}, "--relationship both: accepted are direct and reverse"),
        ({"temperature": 0.0}, "--temperature 0.0: accepted are numbers above 0"),
        ({"temperature": np.nan}, "--temperature nan"),
    ):
        with pytest.raises(ValueError, match=message):
            CoTuning(**arguments)

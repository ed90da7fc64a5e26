"""DELTA's two forms against NumPy in float64, the limits of its term, and what it leaves alone."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

from models.network import Network
from models.outputs import Outputs
from regularizers import attention
from regularizers.delta import DELTA, distance
from regularizers.mixup import mix_batch
from tests.regularizers.toys import arrays, same, toy_batch, toy_setup, train

OFFICIAL_CONVS = [("layer1", 16), ("layer2", 32), ("layer3", 64)]  # of ResNet-8, each stage[-1].conv2
FORMS = ["smile", "official"]


def prepared(tmp_path, **arguments):
    arguments.setdefault("attention", "uniform")
    setup = toy_setup(tmp_path)
    method = DELTA(**arguments)
    method.prepare(setup)
    return setup, method


def maps(seed, shape=(3, 5, 2, 4)):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def value_and_gradient(student, source, weights):
    student = paddle.to_tensor(student, stop_gradient=False)
    value = distance(student, paddle.to_tensor(source), paddle.to_tensor(weights, "float32"))
    value.backward()
    return value.item(), student.grad.numpy()


WEIGHTS = np.array([0.1, 0.4, 0.0, 0.3, 0.2])


def test_value_and_gradient_of_the_distance():
    student, source = maps(0), maps(1)
    value, gradient = value_and_gradient(student, source, WEIGHTS)
    difference = student.astype("float64") - source
    assert value == pytest.approx((WEIGHTS[:, None, None] * difference**2).sum() / 8, rel=1e-5)
    np.testing.assert_allclose(gradient, 2 * WEIGHTS[:, None, None] * difference / 8, rtol=1e-5)


def test_equal_maps_have_distance_and_gradient_zero():
    value, gradient = value_and_gradient(maps(0), maps(0), WEIGHTS)
    assert value == 0
    assert (gradient == 0).all()


def test_the_distance_is_a_sum_over_the_batch():
    student, source = maps(0), maps(1)
    once = value_and_gradient(student, source, WEIGHTS)[0]
    twice = value_and_gradient(np.tile(student, (2, 1, 1, 1)), np.tile(source, (2, 1, 1, 1)), WEIGHTS)[0]
    assert twice == pytest.approx(2 * once, rel=1e-6)


def test_the_order_of_the_channels_does_not_matter():
    order = np.random.default_rng(2).permutation(5)
    once = value_and_gradient(maps(0), maps(1), WEIGHTS)[0]
    assert value_and_gradient(maps(0)[:, order], maps(1)[:, order], WEIGHTS[order])[0] == pytest.approx(once, rel=1e-6)


def test_half_precision_maps_are_compared_in_float32():
    student = paddle.full([1, 1, 1, 1], 300.0).astype("float16")
    value = distance(student, paddle.zeros([1, 1, 1, 1], dtype="float16"), paddle.ones([1]))
    assert value.item() == 90000  # more than float16 holds


def after_conv(network, images, stage):
    """Return what the last convolution of `stage` gives, by running the network up to it."""
    x = network.bn1(network.conv1(images)).clip(min=0)
    for name, _ in OFFICIAL_CONVS:
        block = getattr(network, name)[0]
        if name == stage:
            return block.conv2(block.relu(block.bn1(block.conv1(x)))).numpy().astype("float64")
        x = block(x)
    return None


def numpy_term(form, setup, batch, outputs, weights):
    """Return the unweighted term for channel attentions `weights`; the student must not have moved since."""
    student = copy.deepcopy(setup.model)  # its statistics move in training mode, which changes no training output
    total = 0
    for (stage, channels), a in zip(OFFICIAL_CONVS[-len(weights) :], weights):
        if form == "official":
            s, t = after_conv(student, batch.images, stage), after_conv(setup.source, batch.images, stage)
            factor = 0.5 * channels
        else:
            s, t = (o.maps[-1].numpy().astype("float64") for o in (outputs, setup.source(batch.images)))
            factor = 1
        per_channel = ((s - t) ** 2).sum(axis=(2, 3)) / np.prod(s.shape[2:])
        total += factor * (per_channel * a).sum()
    return total


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_term_equals_numpy_on_the_images_the_student_sees(tmp_path, form, mixed):
    setup, method = prepared(tmp_path, delta_form=form, delta_lambda=0.3, attention="computed")
    for tensor in setup.model.parameters():  # a little away from the source
        tensor.set_value(tensor + 0.02 * paddle.randn(tensor.shape))
    batch = toy_batch(setup)
    if mixed:
        batch = mix_batch(batch, np.random.default_rng(0), 1.0)
    outputs = setup.model(batch.images)
    term = method.loss(setup.model, batch, outputs, 3)["delta"].item()
    stages = OFFICIAL_CONVS[-len(method.weights) :]
    factors = [0.5 * channels if form == "official" else 1 for _, channels in stages]
    weights = [weight.numpy() / factor for weight, factor in zip(method.weights, factors)]
    assert len(weights) == (3 if form == "official" else 1)
    for weight in weights:
        assert weight.sum() == pytest.approx(1, rel=1e-5)
        assert np.ptp(weight) > 0
    assert term == pytest.approx(0.3 * numpy_term(form, setup, batch, outputs, weights), rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_uniform_attention_is_the_plain_mean(tmp_path, form):
    setup, method = prepared(tmp_path, delta_form=form)
    for weight, (_, channels) in zip(method.weights, OFFICIAL_CONVS[-len(method.weights) :]):
        np.testing.assert_allclose(weight.numpy(), 0.5 if form == "official" else 1 / channels, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_source_itself_has_term_and_gradient_zero(tmp_path, form):
    setup, method = prepared(tmp_path, delta_form=form)
    setup.model.eval()
    batch = toy_batch(setup)
    term = method.loss(setup.model, batch, setup.model(batch.images), 0)["delta"]
    term.backward()
    assert term.item() == 0
    assert all((p.grad.numpy() == 0).all() for p in setup.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_reaches_the_backbone_and_nothing_else(tmp_path, form):
    setup, method = prepared(tmp_path, delta_form=form)
    batch = toy_batch(setup)
    method.loss(setup.model, batch, setup.model(batch.images), 0)["delta"].backward()
    for tensor in (setup.model.conv1.weight, setup.model.layer3[0].conv2.weight):
        assert np.abs(tensor.grad.numpy()).max() > 0
    # the official maps are taken before the last batch normalisation, the other one after it
    assert (setup.model.layer3[0].bn2.weight.grad is None) == (form == "official")
    assert setup.model.fc.weight.grad is None
    assert all(tensor.grad is None for tensor in setup.source.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_the_source_stays_bit_for_bit(tmp_path, form):
    setup = toy_setup(tmp_path)
    source = arrays(setup.source)
    method = DELTA(delta_form=form)
    method.prepare(setup)
    method.train()
    train(setup, method, 3)
    assert same(arrays(setup.source), source)
    assert not any(layer.training for layer in setup.source.sublayers(include_self=True))
    assert method.parameters() == []
    assert list(method.state_dict()) == [f"weights{i}" for i in range(len(method.weights))]


def test_a_forward_between_two_steps_leaves_nothing_behind(tmp_path):
    setup, method = prepared(tmp_path, delta_form="official")
    batch = toy_batch(setup)
    setup.model(batch.images[:2])  # an evaluation, say
    method.loss(setup.model, batch, setup.model(batch.images), 0)
    assert method.taps.take() == [None, None, None]
    assert not any(layer._forward_post_hooks for layer in method.source_convs)


def test_the_decay_of_the_head(tmp_path):
    setup, method = prepared(tmp_path, delta_head_lambda=0.3)
    setup.model.fc.bias.set_value(np.arange(4, dtype="float32"))
    batch = toy_batch(setup)
    term = method.loss(setup.model, batch, setup.model(batch.images), 0)["delta_head"]
    weight, bias = setup.model.fc.weight.numpy(), setup.model.fc.bias.numpy()
    assert term.item() == pytest.approx(0.15 * ((weight.astype("float64") ** 2).sum() + 14), rel=1e-6)
    term.backward()
    np.testing.assert_allclose(setup.model.fc.weight.grad.numpy(), 0.3 * weight, rtol=1e-6)
    np.testing.assert_allclose(setup.model.fc.bias.grad.numpy(), 0.3 * bias, rtol=1e-6)
    assert setup.model.conv1.weight.grad is None


def test_without_strength_the_head_has_no_term(tmp_path):
    setup, method = prepared(tmp_path)
    batch = toy_batch(setup)
    assert set(method.loss(setup.model, batch, setup.model(batch.images), 0)) == {"delta"}


def test_both_forms_measure_the_last_stage_alike(tmp_path):
    smile, official = (prepared(tmp_path, delta_form=form, attention="computed")[1] for form in FORMS)
    np.testing.assert_allclose(official.weights[-1].numpy(), 32 * smile.weights[0].numpy(), rtol=1e-6)


def test_what_is_measured_depends_on_how_many_images_and_on_the_seed_alone(tmp_path):
    def weights(folder, batches, seed):
        setup = toy_setup(tmp_path / folder)
        method = DELTA(attention_batches=batches)
        method.prepare(replace(setup, seed=seed))
        return method.weights[0].numpy()

    assert (weights("a", 1, 0) == weights("b", 1, 0)).all()
    assert (weights("a", 1, 0) != weights("b", 1, 1)).any()
    assert (weights("a", 1, 0) != weights("b", 2, 0)).any()


@pytest.mark.parametrize("form", FORMS)
def test_the_attention_is_measured_once(tmp_path, form, monkeypatch):
    first = prepared(tmp_path, delta_form=form, attention="computed")[1]
    monkeypatch.setattr(attention, "batch_increases", None)  # measuring would fail
    again = prepared(tmp_path, delta_form=form, attention="computed")[1]
    for one, other in zip(first.weights, again.weights):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("form", FORMS)
def test_what_an_older_version_measured_is_not_used(tmp_path, form):
    """Its classifier was not at the minimum; its files are attention-*.npy."""
    setup, method = prepared(tmp_path / "empty", delta_form=form, attention="computed")
    (new,) = (tmp_path / "empty").iterdir()
    old = tmp_path / "old" / f"attention-{new.name.partition('-')[2]}"
    old.parent.mkdir()
    np.save(old, np.arange(len(np.load(new)), dtype="float64"))
    again = prepared(old.parent, delta_form=form, attention="computed")[1]
    for one, other in zip(method.weights, again.weights):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


class Plain(Network, nn.Layer):
    """A network that is no ResNet."""

    head_name = "top"

    def __init__(self, classes=4):
        super().__init__()
        self.conv, self.top = nn.Conv2D(3, 6, 3), nn.Linear(6, classes)

    def forward(self, images):
        x = self.conv(images)
        features = x.mean(axis=[2, 3])
        return Outputs(self.top(features), features, (x,))


def plain_setup(tmp_path):
    return replace(toy_setup(tmp_path), model=Plain(), source=Plain())


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({}, True),
        ({"delta_form": "official"}, True),
        ({"delta_form": "official", "attention": "uniform"}, True),
        ({"attention": "uniform"}, False),
    ],
)
def test_another_network_is_refused(arguments, refused):
    assert ("--delta_form smile and --attention uniform" in DELTA(**arguments).requirements().stages) == refused


def test_an_efficientnets_last_map_is_not_what_its_head_reads(tmp_path):
    setup = toy_setup(tmp_path, arch="efficientnet_b0")
    method = DELTA(attention="uniform")
    method.prepare(setup)
    outputs = setup.model(paddle.randn([4, 3, 32, 32]))
    assert method.weights[0].shape == [outputs.maps[-1].shape[1]] != [setup.source.head.weight.shape[0]]
    batch = SimpleNamespace(images=paddle.randn([4, 3, 32, 32]))
    assert np.isfinite(method.loss(setup.model, batch, outputs, 0)["delta"].item())


def test_another_network_may_compare_its_last_map(tmp_path):
    setup, method = plain_setup(tmp_path), DELTA(attention="uniform", delta_lambda=1.0)
    method.prepare(setup)
    batch = toy_batch(setup)
    outputs = setup.model(batch.images)
    difference = (outputs.maps[-1] - setup.source(batch.images).maps[-1]).numpy().astype("float64")
    term = method.loss(setup.model, batch, outputs, 0)["delta"].item()
    assert term == pytest.approx((difference**2).sum() / (6 * 14 * 14), rel=1e-5)


def test_defaults_and_ranges():
    method = DELTA()
    assert (method.delta_lambda, method.delta_form, method.delta_head_lambda) == (0.01, "smile", 0)
    assert (method.attention, method.attention_batches) == ("computed", 4)
    assert method.requirements().source
    assert method.requirements().backbone == "regularized"
    for arguments, message in (
        ({"delta_lambda": -0.1}, "--delta_lambda -0.1: accepted are numbers from 0 upwards"),
        ({"delta_lambda": np.nan}, "--delta_lambda nan"),
        ({"delta_head_lambda": np.inf}, "--delta_head_lambda inf"),
        ({"delta_form": "both"}, "--delta_form both: accepted are smile and official"),
        ({"attention": "none"}, "--attention none: accepted are computed and uniform"),
        ({"attention_batches": 0}, "--attention_batches 0: accepted are whole numbers from 1 upwards"),
    ):
        with pytest.raises(ValueError, match=message):
            DELTA(**arguments)

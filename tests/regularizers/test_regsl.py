"""RegSL's projection and self-labelling against NumPy in float64, and their limits."""

import math
from dataclasses import replace

import numpy as np
import paddle
import pytest

from datasets.batch import Batch, Mix
from models.outputs import Outputs
from regularizers import create
from regularizers.regsl import RegSL
from tests.regularizers.toys import arrays, optimizer_of, same, toy_batch, toy_setup, train


def prepared(arch="resnet8", **arguments):
    setup = toy_setup(arch=arch)
    method = RegSL(**arguments)
    method.prepare(setup)
    return setup, method


def move(setup, size, seed=0):
    """Move every tensor of the student, its running variances too."""
    rng = np.random.default_rng(seed)
    for name, tensor in setup.model.named_parameters():
        shift = rng.normal(scale=size, size=tensor.shape)
        tensor.set_value(tensor.numpy() + (np.abs(shift) if name.endswith("_variance") else shift).astype("float32"))


def bound_of(name, method):
    """Return the official bound of a tensor, by its name."""
    growth = {"layer1": 0, "layer2": 0, "layer3": 1, "layer4": 2}[name.split(".")[0]]
    return method.distance * method.distance_growth**growth


def is_scale(name, state):
    return name.endswith(".weight") and f"{name[:-7]}._variance" in state


def projected(moved, source, method):
    """Return where the tensors `moved` belong, float64."""
    result = {name: value.astype("float64") for name, value in moved.items()}
    for name, p in result.items():
        p0 = source.get(name)
        if name == "fc.weight":
            result[name] = p / max(1, np.linalg.norm(p) / method.head_distance)
        elif name.startswith("layer") and p.ndim == 4:
            result[name] = p0 + (p - p0) / max(1, np.sqrt(((p - p0) ** 2).sum()) / bound_of(name, method))
        elif name.startswith("layer") and is_scale(name, moved):
            root = np.sqrt(moved[f"{name[:-7]}._variance"].astype("float64") + 1e-6)
            q0 = p0 / np.sqrt(source[f"{name[:-7]}._variance"].astype("float64") + 1e-6)
            t = p / root - q0
            result[name] = (q0 + t / np.maximum(1, np.abs(t) / bound_of(name, method))) * root
    return result


@pytest.mark.parametrize("arch", ["resnet8", "resnet18"])
def test_the_projection_equals_numpy(arch):
    setup, method = prepared(arch, distance=0.01, head_distance=0.7, distance_growth=1.5)
    move(setup, 0.05)
    moved, source = arrays(setup.model), arrays(setup.source)
    method.after_step(setup.model, 0)
    expected, changed = projected(moved, source, method), set()
    for name, value in arrays(setup.model).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-6, atol=2e-7, err_msg=name)
        if not np.array_equal(value, moved[name]):
            changed.add(name)
    free = {name for name in moved if not name.startswith("layer") and name != "fc.weight"}
    free |= {name for name in moved if name.endswith((".bias", "._mean", "._variance"))}
    assert "conv1.weight" in free
    assert "bn1.weight" in free
    assert changed == set(moved) - free


@pytest.mark.parametrize("distance", [0.0, 1e-3, 0.3])
def test_every_layer_is_within_its_distance_after_every_step(distance):
    setup, method = prepared(distance=distance, head_distance=0.5, distance_growth=1.5)
    source = arrays(setup.source)
    optimizer = optimizer_of(setup, method, lr=0.5)
    for step in range(4):
        train(setup, method, 1, optimizer, first=step)
        now = arrays(setup.model)
        for name, p in now.items():
            slack = 1e-6 * np.linalg.norm(p)  # float32
            if name == "fc.weight":
                assert np.linalg.norm(p.astype("float64")) <= 0.5 * (1 + 1e-6)
            elif name.startswith("layer") and p.ndim == 4:
                gap = p.astype("float64") - source[name]
                assert np.sqrt((gap**2).sum()) <= bound_of(name, method) * (1 + 1e-6) + slack, name
            elif name.startswith("layer") and is_scale(name, now):
                q, q0 = (s[name] / np.sqrt(s[f"{name[:-7]}._variance"] + 1e-6) for s in (now, source))
                assert (np.abs(q - q0) <= bound_of(name, method) * (1 + 1e-6) + 1e-6 * np.abs(q)).all(), name


def test_the_projection_keeps_the_direction_and_happens_once():
    setup, method = prepared(distance=0.05, head_distance=0.2)
    move(setup, 0.1)
    moved = arrays(setup.model)
    method.after_step(setup.model, 0)
    once = arrays(setup.model)
    name = "layer2.0.conv1.weight"
    before, after = (s[name].astype("float64") - setup.source.state_dict()[name].numpy() for s in (moved, once))
    cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert cosine == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(after) < 0.1 * np.linalg.norm(before)
    method.after_step(setup.model, 1)
    for key, value in arrays(setup.model).items():
        np.testing.assert_allclose(value, once[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bound", [1e3, math.inf])
def test_inside_the_ball_nothing_changes_by_a_bit(bound):
    setup, method = prepared(distance=bound, head_distance=bound)
    move(setup, 0.1)
    moved = arrays(setup.model)
    method.after_step(setup.model, 0)
    assert same(arrays(setup.model), moved)


def test_an_infinite_distance_is_plain_fine_tuning():
    setup, method = prepared(distance=math.inf, head_distance=math.inf)
    plain = toy_setup()
    train(setup, method, 4)
    train(plain, create("l2"), 4)
    assert same(arrays(setup.model), arrays(plain.model))


def test_a_distance_of_zero_keeps_the_pretrained_layers():
    setup, method = prepared(distance=0.0, head_distance=0.0)
    source = arrays(setup.source)
    method.after_step(setup.model, 0)  # from a norm of 0
    assert all(np.array_equal(v, source[n]) for n, v in arrays(setup.model).items() if n.startswith("layer"))
    train(setup, method, 3)
    now = arrays(setup.model)
    for name, value in now.items():
        if name.startswith("layer") and value.ndim == 4:
            np.testing.assert_allclose(value, source[name], rtol=1e-6, atol=1e-7)
    assert (now["fc.weight"] == 0).all()
    assert not np.array_equal(now["conv1.weight"], source["conv1.weight"])


def test_the_momentum_is_not_projected():
    setup, method = prepared(distance=1e-3)
    optimizer = optimizer_of(setup, method, lr=0.5)
    train(setup, method, 2, optimizer)
    slots = {name: value.numpy().copy() for name, value in optimizer.state_dict().items()}
    method.after_step(setup.model, 2)
    assert all(np.array_equal(value.numpy(), slots[name]) for name, value in optimizer.state_dict().items())


def test_resnet50_has_52_convolutions_in_four_groups():
    _, method = prepared("resnet50", distance=0.5, distance_growth=3.0)
    convs = [name for name in method.start if name != "fc.weight"]
    assert [sum(name.startswith(f"layer{i}.") for name in convs) for i in (1, 2, 3, 4)] == [10, 13, 19, 10]
    for name, bound in zip(method.start, method.bounds.tolist()):
        assert bound == pytest.approx(23.785 if name == "fc.weight" else bound_of(name, method), rel=1e-6)
    assert len(method.norms) == 52
    assert list(method.channel_bounds.shape) == [sum(method.sizes)] == [26496]


# self-labelling: 24 images in batches of 8 make epochs of 3 steps


def outputs_of(logits):
    return Outputs(paddle.to_tensor(logits, "float32", stop_gradient=False), None, ())


def batch_of(setup, index, mix=None):
    targets = np.eye(4, dtype="float32")[setup.train.labels[index]]
    batch = Batch(paddle.zeros([len(index), 3, 2, 2]), paddle.to_tensor(targets), paddle.to_tensor(index))
    return replace(batch, targets=mix.blend(batch.targets), mix=mix) if mix else batch


def sample_losses(logits, targets):
    logits = np.asarray(logits, "float64")
    return -(targets * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)


LOGITS = np.random.default_rng(4).normal(size=(5, 4)).astype("float32")
INDEX = np.array([7, 0, 3, 12, 21])


def first_step(epoch):
    return 3 * (epoch - 1)


def test_without_self_labelling_there_is_no_term_and_no_state():
    setup, method = prepared()
    assert method.loss(setup.model, batch_of(setup, INDEX), outputs_of(LOGITS), 100) == {}
    assert method.requirements().terms == ()
    assert method.state_dict() == {}
    assert not create("mixup").requirements().conflict(method.requirements())


def test_the_first_epochs_are_plain_cross_entropy():
    setup, method = prepared(self_label=True)
    one_hot = np.eye(4)[setup.train.labels[INDEX]]
    for step in (0, first_step(5) - 1):
        term = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(LOGITS), step)["ce"]
        assert term.item() == pytest.approx(sample_losses(LOGITS, one_hot).mean(), rel=1e-6)
    weighted = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(LOGITS), first_step(5))["ce"]
    assert weighted.item() < term.item()


@pytest.mark.parametrize("mixed", [False, True])
def test_images_are_weighed_by_their_loss_without_gradient(mixed):
    setup, method = prepared(self_label=True, reweight_epoch=1, reweight_temp=0.7)
    partner = np.array([2, 0, 1, 4, 3])
    mix = Mix(paddle.zeros([5, 3, 2, 2]), paddle.to_tensor(partner), 0.8) if mixed else None
    outputs = outputs_of(LOGITS)
    term = method.loss(setup.model, batch_of(setup, INDEX, mix), outputs, 0)["ce"]
    term.backward()
    targets = np.eye(4)[setup.train.labels[INDEX]]
    if mixed:
        targets = 0.8 * targets + 0.2 * targets[partner]
    losses = sample_losses(LOGITS, targets)
    weights = np.exp(-losses / 0.7) / np.exp(-losses / 0.7).sum()
    assert term.item() == pytest.approx((weights * losses).sum(), rel=1e-5)
    scores = np.exp(LOGITS.astype("float64"))
    gradient = weights[:, None] * (scores / scores.sum(axis=1, keepdims=True) - targets)
    np.testing.assert_allclose(outputs.logits.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e6, 1e-4])
def test_the_limits_of_the_weights_are_the_mean_and_the_smallest_loss(temperature):
    setup, method = prepared(self_label=True, reweight_epoch=1, reweight_temp=temperature)
    term = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(LOGITS), 0)["ce"].item()
    losses = sample_losses(LOGITS, np.eye(4)[setup.train.labels[INDEX]])
    assert term == pytest.approx(losses.mean() if temperature > 1 else losses.min(), rel=1e-5)


def test_equal_losses_and_a_single_image_have_the_plain_mean():
    setup, method = prepared(self_label=True, reweight_epoch=1)
    even = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(np.zeros((5, 4))), 0)["ce"].item()
    assert even == pytest.approx(np.log(4), rel=1e-6)
    alone = method.loss(setup.model, batch_of(setup, INDEX[:1]), outputs_of(LOGITS[:1]), 0)["ce"].item()
    assert alone == pytest.approx(sample_losses(LOGITS[:1], np.eye(4)[setup.train.labels[INDEX[:1]]])[0], rel=1e-6)


def test_the_temperatures_are_the_official_ones():
    method = RegSL(self_label=True, reweight_temp=2.0, reweight_epoch=5)
    expected = {5: 2.0, 6: 2.0, 7: 1.8097, 8: 1.6375, 10: 1.3406, 13: 1.0, 30: 1.0}
    for epoch, temperature in expected.items():
        assert method.temperature(epoch) == pytest.approx(temperature, abs=5e-5)


def test_an_epoch_is_the_number_of_images_over_the_batch_size():
    setup = toy_setup(count=20)  # 2.5 batches
    method = RegSL(self_label=True, reweight_epoch=3)
    method.prepare(setup)
    losses = sample_losses(LOGITS, np.eye(4)[setup.train.labels[INDEX % 20]])
    values = [
        method.loss(setup.model, batch_of(setup, INDEX % 20), outputs_of(LOGITS), step)["ce"].item() for step in (4, 5)
    ]
    assert values[0] == pytest.approx(losses.mean(), rel=1e-6)  # 32 images seen: epoch 2
    assert values[1] != pytest.approx(losses.mean(), rel=1e-3)  # 40: epoch 3


def sure_logits(labels, probability):
    """Return logits whose softmax is `probability` for `labels` and even for the other classes."""
    logits = np.zeros((len(labels), 4))
    logits[np.arange(len(labels)), labels] = np.log(3 * probability / (1 - probability))
    return logits


def test_a_sure_network_corrects_labels_at_once_and_for_good():
    setup, method = prepared(self_label=True, correct_epoch=3, reweight_epoch=9)
    given = setup.train.labels[INDEX]
    guesses = (given + 1) % 4
    logits = np.where(np.arange(5)[:, None] < 3, sure_logits(guesses, 0.95), sure_logits(guesses, 0.85))
    early = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(logits), first_step(3) - 1)["ce"].item()
    assert early == pytest.approx(sample_losses(logits, np.eye(4)[given]).mean(), rel=1e-6)
    np.testing.assert_array_equal(method.labels.numpy(), setup.train.labels)

    value = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(logits), first_step(3))["ce"].item()
    corrected = np.where(np.arange(5) < 3, guesses, given)
    assert value == pytest.approx(sample_losses(logits, np.eye(4)[corrected]).mean(), rel=1e-6)
    expected = setup.train.labels.copy()
    expected[INDEX] = corrected
    np.testing.assert_array_equal(method.labels.numpy(), expected)

    unsure = method.loss(setup.model, batch_of(setup, INDEX), outputs_of(LOGITS), first_step(3) + 1)["ce"].item()
    assert unsure == pytest.approx(sample_losses(LOGITS, np.eye(4)[corrected]).mean(), rel=1e-6)


def test_the_threshold_itself_is_not_sure_enough():
    setup, method = prepared(self_label=True, correct_epoch=1, label_threshold=0.25)
    method.loss(setup.model, batch_of(setup, INDEX), outputs_of(np.zeros((5, 4))), 0)  # 1/4 each, exactly
    np.testing.assert_array_equal(method.labels.numpy(), setup.train.labels)


def test_mixed_images_correct_nothing_but_carry_corrected_labels():
    setup, method = prepared(self_label=True, correct_epoch=1, reweight_epoch=9)
    guesses = (setup.train.labels[INDEX] + 1) % 4
    logits, partner = sure_logits(guesses, 0.99), np.array([1, 0, 3, 2, 4])
    mix = Mix(paddle.zeros([5, 3, 2, 2]), paddle.to_tensor(partner), 0.6)
    given = np.eye(4)[setup.train.labels[INDEX]]
    for targets in (given, np.eye(4)[guesses]):
        value = method.loss(setup.model, batch_of(setup, INDEX, mix), outputs_of(logits), 0)["ce"].item()
        assert value == pytest.approx(sample_losses(logits, 0.6 * targets + 0.4 * targets[partner]).mean(), rel=1e-5)
        method.loss(setup.model, batch_of(setup, INDEX), outputs_of(logits), 0)  # clean: these are corrected
    np.testing.assert_array_equal(method.labels.numpy()[INDEX], guesses)


def test_corrected_labels_are_in_the_checkpoint():
    setup, method = prepared(self_label=True, correct_epoch=1)
    guesses = (setup.train.labels[INDEX] + 1) % 4
    method.loss(setup.model, batch_of(setup, INDEX), outputs_of(sure_logits(guesses, 0.99)), 0)
    assert list(method.state_dict()) == ["labels"]
    assert method.labels.dtype == paddle.int64
    other = RegSL(self_label=True, correct_epoch=1)
    other.prepare(setup)
    np.testing.assert_array_equal(other.labels.numpy(), setup.train.labels)
    other.set_state_dict(method.state_dict())
    np.testing.assert_array_equal(other.labels.numpy()[INDEX], guesses)
    assert other.parameters() == []


def test_the_term_replaces_the_cross_entropy_in_training():
    setup, method = prepared(self_label=True, reweight_epoch=1)
    assert set(train(setup, method, 2)) == {"ce"}
    assert method.requirements().terms == ("ce",)
    batch = toy_batch(setup)
    method.loss(setup.model, batch, setup.model(batch.images), 0)["ce"].backward()
    assert np.abs(setup.model.fc.weight.grad.numpy()).max() > 0


def test_defaults_and_ranges():
    method = RegSL()
    assert (method.distance, method.head_distance, method.distance_growth) == (0.2044, 23.785, 4.738)
    assert method.requirements().source
    assert method.requirements().backbone == "regularized"
    for arguments, message in (
        ({"distance": -1.0}, "--distance -1.0: accepted are numbers from 0 upwards and inf"),
        ({"head_distance": math.nan}, "--head_distance nan"),
        ({"distance_growth": 0.0}, "--distance_growth 0.0: accepted are numbers above 0"),
        ({"distance_growth": math.inf}, "--distance_growth inf"),
        ({"label_threshold": 1.5}, "--label_threshold 1.5: accepted are numbers from 0 to 1"),
        ({"correct_epoch": 0}, "--correct_epoch 0: accepted are whole numbers from 1 upwards"),
        ({"reweight_epoch": 0}, "--reweight_epoch 0"),
        ({"reweight_temp": 0.0}, "--reweight_temp 0.0: accepted are numbers above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            RegSL(**arguments)

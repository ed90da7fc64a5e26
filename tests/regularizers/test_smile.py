"""Every term of SMILE against NumPy in float64, its limits, its teacher and its tail."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from datasets.batch import Batch, Mix
from models.outputs import Outputs
from regularizers.losses import cross_entropy
from regularizers.mixup import Mixup
from regularizers.smile import SMILE
from tests.regularizers.toys import arrays, optimizer_of, same, toy_batch, toy_setup, train
from training.parsing import parse
from utils.errors import UsageError


def made(tmp_path, steps=20, **arguments):
    arguments.setdefault("clean_tail", 0)
    setup = toy_setup(tmp_path, steps=steps)
    method = SMILE(**arguments)
    method.prepare(setup)
    return setup, method


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def mixed(batch, partner, ratio):
    mix = Mix(images=batch.images, partner=paddle.to_tensor(partner), ratio=ratio)
    return Batch(mix.blend(batch.images), mix.blend(batch.targets), batch.index, mix)


def in_numpy(method, batch, partner, ratio, outputs):
    """The two terms and the cross-entropy in float64, from the networks' outputs alone."""
    taught = method.teacher(batch.mix.images)
    blend = lambda x: ratio * x + (1 - ratio) * x[partner]  # noqa: E731
    maps, teacher_maps = (o.maps[-1].numpy().astype("float64") for o in (outputs, taught))
    h, w = maps.shape[-2:]
    fea = np.sqrt(((blend(teacher_maps) - maps) ** 2).sum()) / (h * w)
    probabilities = np.exp(log_softmax(taught.logits.numpy().astype("float64")))
    weight, bias = (p.numpy().astype("float64") for p in (method.aux_head.weight, method.aux_head.bias))
    source_logits = outputs.features.numpy().astype("float64") @ weight + bias
    aux = -(blend(probabilities) * log_softmax(source_logits)).sum(axis=1).mean()
    own = log_softmax(outputs.logits.numpy().astype("float64"))
    labels = batch.targets.numpy().argmax(axis=1)
    return fea, aux, own, labels


@pytest.mark.parametrize("size", [8, 3, 1])
def test_terms_equal_numpy(tmp_path, size):
    setup, method = made(tmp_path, reg_lambda=0.3, aux_lambda=0.7)
    train(setup, method, 3)  # teacher, heads and student apart
    clean = toy_batch(setup, size)
    partner, ratio = np.random.default_rng(1).permutation(size), 0.73
    batch = mixed(clean, partner, ratio)
    outputs = setup.model(batch.images)
    terms = method.loss(setup.model, batch, outputs, 0)
    fea, aux, own, _ = in_numpy(method, batch, partner, ratio, outputs)
    assert set(terms) == set(SMILE().requirements().terms)
    np.testing.assert_allclose(terms["fea"].item(), 0.3 * fea, rtol=1e-5)
    np.testing.assert_allclose(terms["aux"].item(), 0.7 * aux, rtol=1e-5)
    labels = clean.targets.numpy().argmax(axis=1)
    rows = np.arange(size)
    main = (-ratio * own[rows, labels] - (1 - ratio) * own[rows, labels[partner]]).mean()
    np.testing.assert_allclose(cross_entropy(outputs.logits, batch.targets).item(), main, rtol=1e-5)


def test_weights_of_zero_are_mixup(tmp_path):
    first, smile = made(tmp_path, reg_lambda=0.0, aux_lambda=0.0)
    second = toy_setup(tmp_path)
    mixup = Mixup(alpha=0.2)
    mixup.prepare(second)
    train(first, smile, 4)
    train(second, mixup, 4)
    assert same(arrays(first.model), arrays(second.model))


def test_no_mixing_at_ratio_one_or_with_oneself(tmp_path):
    setup, method = made(tmp_path)
    clean = toy_batch(setup)
    identity, partner = np.arange(8), np.random.default_rng(0).permutation(8)
    whole = mixed(clean, partner, 1.0)
    assert paddle.equal_all(whole.images, clean.images)
    assert paddle.equal_all(whole.targets, clean.targets)
    itself = mixed(clean, identity, 0.6)
    np.testing.assert_allclose(itself.images.numpy(), clean.images.numpy(), atol=1e-6)


def feature_term(method, student_maps, teacher_maps):
    """The feature term for given maps, ratio 1, and its gradient with respect to the student's."""
    size = student_maps.shape[0]
    maps = paddle.to_tensor(student_maps, stop_gradient=False)
    method.teacher.forward = lambda images: Outputs(
        paddle.zeros([size, 10]), paddle.zeros([size, 64]), (paddle.to_tensor(teacher_maps),)
    )
    mix = Mix(images=paddle.zeros([size, 3, 4, 4]), partner=paddle.arange(size), ratio=1.0)
    outputs = Outputs(None, paddle.zeros([size, 64]), (maps,))
    term = method.loss(None, Batch(None, None, None, mix), outputs, 0)["fea"]
    term.backward()
    return term.item(), maps.grad.numpy()


def test_the_feature_term_is_a_norm(tmp_path):
    _, method = made(tmp_path, reg_lambda=1.0)
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(5, 6, 3, 2)).astype("float32") for _ in range(2))
    value, gradient = feature_term(method, student, teacher)
    np.testing.assert_allclose(value, np.linalg.norm((teacher - student).astype("float64")) / 6, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(gradient), 1 / 6, rtol=1e-5)
    np.testing.assert_allclose(feature_term(method, 3 * student, 3 * teacher)[0], 3 * value, rtol=1e-5)
    doubled = feature_term(method, np.tile(student, (2, 1, 1, 1)), np.tile(teacher, (2, 1, 1, 1)))
    np.testing.assert_allclose(doubled[0], np.sqrt(2) * value, rtol=1e-5)
    equal, gradient = feature_term(method, student, student)
    assert equal == 0
    assert np.all(gradient == 0)


def test_the_first_step_in_eval_mode_starts_equal(tmp_path):
    setup, method = made(tmp_path, reg_lambda=1.0, aux_lambda=1.0)
    setup.model.eval()
    batch = mixed(toy_batch(setup), np.arange(8), 1.0)
    terms = method.loss(setup.model, batch, setup.model(batch.images), 0)
    p = F.softmax(setup.source(batch.images).logits).numpy().astype("float64")
    assert terms["fea"].item() == 0
    np.testing.assert_allclose(terms["aux"].item(), -(p * np.log(p)).sum(axis=1).mean(), rtol=1e-5)


def test_the_source_class_gradient_is_softmax_minus_target(tmp_path):
    setup, method = made(tmp_path, aux_lambda=1.0, reg_lambda=0.0)
    batch = mixed(toy_batch(setup), np.array([1, 0, 3, 2, 5, 4, 7, 6]), 0.8)
    outputs = setup.model(batch.images)
    sum(method.loss(setup.model, batch, outputs, 0).values()).backward()
    target = batch.mix.blend(F.softmax(method.teacher(batch.mix.images).logits)).numpy().astype("float64")
    features = outputs.features.numpy().astype("float64")
    logits = features @ method.aux_head.weight.numpy() + method.aux_head.bias.numpy()
    expected = features.T @ ((np.exp(log_softmax(logits)) - target) / 8)
    np.testing.assert_allclose(method.aux_head.weight.grad.numpy(), expected, atol=1e-6)


def test_nothing_reaches_the_teacher_but_the_average(tmp_path):
    setup, method = made(tmp_path)
    before = arrays(method.teacher)
    batch = method.transform(toy_batch(setup), 0)
    method.train()  # as a careless parent would
    sum(method.loss(setup.model, batch, setup.model(batch.images), 0).values()).backward()
    assert all(p.stop_gradient and p.grad is None for p in method.teacher.parameters())
    assert same(arrays(method.teacher), before)
    method.after_step(setup.model, 0)
    assert not same(arrays(method.teacher), before)


@pytest.mark.parametrize("bn_stats", [True, False])
def test_the_average_in_closed_form(tmp_path, bn_stats):
    setup, method = made(tmp_path, steps=100, ema_decay=0.9, ema_every=10, ema_bn_stats=bn_stats)
    train(setup, method, 1)  # the student has moved; the teacher followed once
    start, student = arrays(method.teacher.network), arrays(setup.model)
    updates = 0
    for step in range(1, 100):
        held = arrays(method.teacher)
        method.after_step(setup.model, step)
        changed = not same(arrays(method.teacher), held)
        assert changed == (step % 10 == 0)
        updates += changed
    assert updates == 9
    for name, value in arrays(method.teacher.network).items():
        still = name.startswith("fc.") or (not bn_stats and name.endswith(("_mean", "_variance")))
        if still:
            assert np.array_equal(value, start[name])
        else:
            s, t = (x.astype("float64") for x in (student[name], start[name]))
            np.testing.assert_allclose(value, s + 0.9**9 * (t - s), rtol=2e-5, atol=2e-6)
    assert same(arrays(setup.model), student)


def test_the_teacher_is_updated_at_every_step_by_default(tmp_path):
    setup, method = made(tmp_path)
    assert (method.ema_decay, method.ema_every) == (0.9999, 1)
    assert pytest.approx(0.9999, abs=1e-6) == 0.999 ** (1 / 10)  # the reference's half-life
    train(setup, method, 1)
    seen = set()
    for step in range(5):
        method.after_step(setup.model, step)
        seen.add(method.teacher.network.conv1.weight.numpy().tobytes())
    assert len(seen) == 5


def test_the_teacher_follows_the_weights_after_the_step(tmp_path):
    setup, method = made(tmp_path, ema_decay=0.0)
    train(setup, method, 1)
    assert np.array_equal(method.teacher.network.conv1.weight.numpy(), setup.model.conv1.weight.numpy())


def test_decay_one_freezes_the_teacher(tmp_path):
    setup, method = made(tmp_path, ema_decay=1.0)
    before = arrays(method.teacher)
    train(setup, method, 3)
    assert same(arrays(method.teacher), before)


def test_the_tail_is_plain_fine_tuning(tmp_path):
    setup, method = made(tmp_path, clean_tail=15)  # of 20
    batch = toy_batch(setup)
    assert method.transform(batch, 4).mix is not None
    before = arrays(method.teacher)
    method.teacher.forward = lambda images: pytest.fail("the teacher was called in the clean tail")
    assert method.transform(batch, 5) is batch
    outputs = setup.model(batch.images)
    assert method.loss(setup.model, batch, outputs, 5) == {}
    method.after_step(setup.model, 5)
    assert same(arrays(method.teacher), before)
    updates = [step for step in range(20) if step < method.first_clean and step % 10 == 0]
    assert len(updates) == -(-method.first_clean // 10)


def test_a_tail_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match="--max_iters 1000: .* 1001 or more: .* --clean_tail 1000"):
        parse(["--max_iters", "1000", "--clean_tail", "1000", "--train_dir", "a"])
    assert SMILE().requirements().steps[0] == 1001
    assert SMILE(clean_tail=0).requirements().steps[0] == 1


@pytest.mark.parametrize(
    "arguments", [{"alpha": -1}, {"alpha": float("nan")}, {"ema_decay": 1.1}, {"ema_every": 0}, {"clean_tail": -1}]
)
def test_values_out_of_range(arguments):
    with pytest.raises(ValueError, match=f"--{next(iter(arguments))} .* accepted"):
        SMILE(**arguments)


def test_the_source_is_left_alone_and_the_aux_head_is_a_copy(tmp_path):
    setup, method = made(tmp_path)
    before = arrays(setup.source)
    assert np.array_equal(method.aux_head.weight.numpy(), setup.source.head.weight.numpy())
    train(setup, method, 3, optimizer_of(setup, method, lr=0.5))
    assert same(arrays(setup.source), before)
    assert not np.array_equal(method.aux_head.weight.numpy(), setup.source.head.weight.numpy())

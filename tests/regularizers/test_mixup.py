import math
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

import models
from datasets.batch import Batch, Mix
from regularizers.losses import cross_entropy
from regularizers.mixup import Mixup, draw_ratio, mix_batch
from utils.rng import generator


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def batch_of(size, classes=5, pixels=16, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 3, pixels, pixels)).astype("float32")
    labels = rng.integers(classes, size=size) if labels is None else labels
    targets = np.eye(classes, dtype="float32")[labels]
    return Batch(paddle.to_tensor(images), paddle.to_tensor(targets), paddle.arange(size))


def mixup(alpha=0.2, seed=3):
    method = Mixup(alpha=alpha)
    method.prepare(SimpleNamespace(seed=seed))
    return method


def permutation(mixed):
    return mixed.mix.partner.numpy()


def test_images_and_targets_are_the_convex_combination():
    batch = batch_of(6)
    mixed = mixup(alpha=1.0).transform(batch, 4)
    lam, pi = mixed.mix.ratio, permutation(mixed)
    assert 0.5 <= lam < 1
    for got, clean in ((mixed.images, batch.images), (mixed.targets, batch.targets)):
        x = clean.numpy().astype("float64")
        np.testing.assert_allclose(got.numpy(), lam * x + (1 - lam) * x[pi], atol=1e-6)
    assert mixed.mix.images is batch.images
    assert mixed.index is batch.index


def test_the_loss_is_that_of_soft_labels_and_that_of_two_cross_entropies():
    batch = batch_of(6)
    mixed = mixup(alpha=1.0).transform(batch, 0)
    logits = paddle.randn([6, 5])
    loss = cross_entropy(logits, mixed.targets).item()
    lam, pi = mixed.mix.ratio, permutation(mixed)
    y, log_p = batch.targets.numpy().argmax(axis=1), log_softmax(logits.numpy().astype("float64"))
    two = -lam * log_p[np.arange(6), y].mean() - (1 - lam) * log_p[np.arange(6), y[pi]].mean()
    soft = -((lam * np.eye(5)[y] + (1 - lam) * np.eye(5)[y[pi]]) * log_p).sum(axis=1).mean()
    assert loss == pytest.approx(two, abs=1e-6)
    assert loss == pytest.approx(soft, abs=1e-6)


def test_alpha_zero_is_plain_fine_tuning_bit_for_bit():
    batch, model = batch_of(6), models.build("resnet8", 5)
    assert draw_ratio(generator(0, "mix", 0), 0.0) == 1
    mixed = mixup(alpha=0.0).transform(batch, 1)
    assert mixed.mix.ratio == 1
    assert (permutation(mixed) != np.arange(6)).any()
    losses = [cross_entropy(model(b.images).logits, b.targets).item() for b in (batch, mixed)]
    assert losses[0] == losses[1]


def test_folding_changes_nothing_with_batch_normalisation():
    batch, model = batch_of(8), models.build("resnet8", 5)
    pi, lam = np.random.default_rng(5).permutation(8), 0.3
    assert (pi[pi] != np.arange(8)).any(), "the permutation must not be its own inverse"
    start = {name: value.numpy() for name, value in model.state_dict().items()}

    def run(ratio, partner):
        model.set_state_dict(start)
        mix = Mix(batch.images, paddle.to_tensor(partner), ratio)
        loss = cross_entropy(model(mix.blend(batch.images)).logits, mix.blend(batch.targets)).item()
        return loss, model.bn1._mean.numpy()

    loss, statistics = run(lam, pi)
    folded, folded_statistics = run(1 - lam, np.argsort(pi))
    assert folded == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(folded_statistics, statistics, atol=1e-6)
    assert run(1 - lam, pi)[0] != pytest.approx(loss, rel=1e-5)


def test_partners_of_one_class_leave_plain_cross_entropy():
    batch = batch_of(6, labels=np.full(6, 2))
    mixed = mixup(alpha=1.0).transform(batch, 0)
    logits = paddle.randn([6, 5])
    expected = -log_softmax(logits.numpy().astype("float64"))[:, 2].mean()
    assert cross_entropy(logits, mixed.targets).item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_of_one_is_mixed_with_itself():
    batch = batch_of(1)
    mixed = mixup(alpha=1.0).transform(batch, 0)
    assert permutation(mixed).tolist() == [0]
    np.testing.assert_allclose(mixed.images.numpy(), batch.images.numpy(), rtol=1e-6)
    np.testing.assert_allclose(mixed.targets.numpy(), batch.targets.numpy(), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_folded_ratio_has_the_moments_of_its_distribution(alpha):
    rng = np.random.default_rng(0)
    ratios = np.array([draw_ratio(rng, alpha) for _ in range(100_000)])
    assert ratios.min() >= 0.5
    assert ratios.max() <= 1
    beta_function = math.gamma(alpha) ** 2 / math.gamma(2 * alpha)
    mean = 0.5 + 4**-alpha / (alpha * beta_function)  # half plus the mean absolute deviation of Beta(alpha, alpha)
    spread = alpha / (2 * (2 * alpha + 1))  # E[lam (1 - lam)], which folding keeps
    assert ratios.mean() == pytest.approx(mean, abs=2e-3)
    assert ratios.var() == pytest.approx(mean - spread - mean**2, abs=1e-3)
    assert (ratios * (1 - ratios)).mean() == pytest.approx(spread, abs=1e-3)
    if alpha == 0.2:
        assert mean == pytest.approx(0.899, abs=1e-3)
        assert (ratios > 0.9).mean() == pytest.approx(0.67, abs=0.01)
        assert (ratios > 0.99).mean() == pytest.approx(0.42, abs=0.01)


def test_every_permutation_is_as_likely():
    batch, rng = batch_of(3, pixels=1), np.random.default_rng(0)
    draws = [tuple(permutation(mix_batch(batch, rng, 0.2))) for _ in range(1200)]
    counts = [draws.count(pi) for pi in set(draws)]
    assert len(counts) == 6
    assert sum((count - 200) ** 2 / 200 for count in counts) < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


def test_the_draw_depends_on_seed_and_step_alone():
    batch, method = batch_of(16, pixels=2), mixup()

    def draw(method, step):
        mixed = method.transform(batch, step)
        return mixed.mix.ratio, permutation(mixed).tolist()

    first = draw(method, 7)
    draw(method, 8)
    assert draw(method, 7) == first == draw(mixup(), 7)
    assert draw(method, 8) != first
    assert draw(mixup(seed=4), 7) != first


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="--alpha"):
        Mixup(alpha=alpha)

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from datasets.batch import Batch
from regularizers.base import Chain
from regularizers.cutmix import CutMix, draw_box
from regularizers.losses import cross_entropy
from regularizers.mixup import Mixup
from utils.errors import UsageError


def cutmix(seed=3, **values):
    method = CutMix(**values)
    method.prepare(SimpleNamespace(seed=seed))
    return method


def batch_of(size, height=12, width=16, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 3, height, width)).astype("float32")
    targets = np.eye(classes, dtype="float32")[rng.integers(classes, size=size)]
    return Batch(paddle.to_tensor(images), paddle.to_tensor(targets), paddle.arange(size))


class Fixed:
    """A generator that gives the centre it was made with."""

    def __init__(self, *centres):
        self.centres = list(centres)

    def integers(self, size):
        return self.centres.pop(0)


@pytest.mark.parametrize(
    "ratio, centre, rows, columns",
    [
        (0.75, (6, 8), (3, 9), (4, 12)),  # half of each side: a quarter of the pixels
        (0.75, (0, 15), (0, 3), (11, 16)),  # cut off at two borders
        (0.0, (6, 8), (0, 12), (0, 16)),  # everything
        (0.0, (0, 0), (0, 6), (0, 8)),  # as large as the image, three quarters of it outside
        (1.0, (5, 5), (5, 5), (5, 5)),  # nothing
        (0.99, (5, 5), (5, 5), (5, 5)),  # a side of one pixel rounds to nothing
    ],
)
def test_the_box(ratio, centre, rows, columns):
    assert draw_box(Fixed(*centre), ratio, 12, 16) == (slice(*rows), slice(*columns))


def test_the_centre_is_anywhere_in_the_image():
    rng = np.random.default_rng(0)
    boxes = [draw_box(rng, 0.9375, 8, 16) for _ in range(8000)]  # a quarter of each side: 2 x 4 pixels
    ends = np.bincount([rows.stop for rows, _ in boxes])
    np.testing.assert_allclose(ends[1:] / 8000, 1 / 8, atol=0.02)
    ends = np.bincount([columns.stop for _, columns in boxes])
    np.testing.assert_allclose(ends[2:] / 8000, [1 / 16] * 14 + [2 / 16], atol=0.02)  # the last two end at the border


def test_the_pixels_are_pasted_and_the_ratio_is_their_share():
    batch, method = batch_of(6), cutmix(cutmix_prob=1.0)
    x, shares = batch.images.numpy(), []
    for step in range(60):
        mixed = method.transform(batch, step)
        pi, got = mixed.mix.partner.numpy(), mixed.images.numpy()
        assert sorted(pi) == list(range(6))
        own = (got == x).all(axis=1)
        other = (got == x[pi]).all(axis=1)
        assert (own | other).all(), "every pixel, all channels, is one image's or the other's"
        moved = pi != np.arange(6)
        if not moved.any():
            continue
        outside = own[moved][0]
        assert (own[moved] == outside).all(), "one box for the batch"
        assert mixed.mix.ratio == pytest.approx(outside.mean(), abs=1e-12)
        inside = np.argwhere(~outside)
        if len(inside):
            (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0)
            assert len(inside) == (bottom - top + 1) * (right - left + 1), "the pixels of a box"
        shares.append(mixed.mix.ratio)
    assert min(shares) < 0.5 < max(shares), "the ratio is not folded"


def test_targets_are_mixed_by_the_share():
    batch = batch_of(6)
    mixed = next(m for m in (cutmix(cutmix_prob=1.0).transform(batch, s) for s in range(20)) if m.mix.ratio < 0.9)
    lam, pi, y = mixed.mix.ratio, mixed.mix.partner.numpy(), batch.targets.numpy().astype("float64")
    np.testing.assert_allclose(mixed.targets.numpy(), lam * y + (1 - lam) * y[pi], atol=1e-6)
    logits = paddle.randn([6, 5])
    z = logits.numpy().astype("float64")
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    two = lam * -(y * log_p).sum(axis=1).mean() + (1 - lam) * -(y[pi] * log_p).sum(axis=1).mean()
    assert cross_entropy(logits, mixed.targets).item() == pytest.approx(two, abs=1e-6)


def test_the_clean_batch_is_kept():
    batch = batch_of(4)
    before = batch.images.numpy()
    mixed = cutmix(cutmix_prob=1.0).transform(batch, 0)
    assert mixed.mix.images is batch.images
    assert mixed.index is batch.index
    assert batch.mix is None
    np.testing.assert_array_equal(batch.images.numpy(), before)
    assert mixed.images.dtype == batch.images.dtype


def test_the_share_of_batches_is_the_probability():
    batch = batch_of(2, height=2, width=2)
    for probability, low, high in ((0.0, 0, 0), (0.5, 440, 560), (1.0, 1000, 1000)):
        method, cut = cutmix(cutmix_prob=probability), 0
        for step in range(1000):
            mixed = method.transform(batch, step)
            cut += mixed.mix is not None
            assert mixed.mix is not None or mixed is batch
        assert low <= cut <= high


def test_the_share_of_pixels_follows_beta():
    """With a centre in the middle nothing is cut off: the share outside the box is r itself, up to whole pixels."""
    rng = np.random.default_rng(0)
    for alpha, variance in ((1.0, 1 / 12), (0.2, 1 / (4 * 1.4))):
        shares = []
        for _ in range(4000):
            rows, columns = draw_box(Fixed(500, 500), rng.beta(alpha, alpha), 1000, 1000)
            shares.append(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / 1e6)
        assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
        assert np.var(shares) == pytest.approx(variance, rel=0.05)


def test_a_batch_of_one_is_cut_with_itself():
    batch = batch_of(1)
    mixed = cutmix(cutmix_prob=1.0).transform(batch, 0)
    np.testing.assert_array_equal(mixed.images.numpy(), batch.images.numpy())
    np.testing.assert_allclose(mixed.targets.numpy(), batch.targets.numpy(), rtol=1e-6)


def test_the_draw_depends_on_seed_and_step_alone():
    batch, method = batch_of(16), cutmix(cutmix_prob=1.0)

    def draw(method, step):
        mixed = method.transform(batch, step)
        return mixed.mix.ratio, mixed.mix.partner.numpy().tolist()

    first = draw(method, 7)
    draw(method, 8)
    assert draw(method, 7) == first == draw(cutmix(cutmix_prob=1.0), 7)
    assert draw(method, 8) != first
    assert draw(cutmix(seed=4, cutmix_prob=1.0), 7) != first


def test_it_does_not_go_with_another_mix():
    with pytest.raises(UsageError, match="both mix"):
        Chain({"mixup": Mixup(), "cutmix": CutMix()})


def test_ranges():
    assert (CutMix().cutmix_alpha, CutMix().cutmix_prob) == (1, 0.5)
    for value in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="--cutmix_alpha"):
            CutMix(cutmix_alpha=value)
    for value in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="--cutmix_prob"):
            CutMix(cutmix_prob=value)

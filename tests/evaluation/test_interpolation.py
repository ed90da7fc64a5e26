import numpy as np
import paddle
import pytest
from paddle import nn
from PIL import Image
from scipy import stats
from visualdl import LogReader

from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from evaluation import curves, interpolation
from evaluation.interpolation import Interpolation, Loss, draw, pairs, squares, table
from models import Outputs, build
from tests.pictures import write_folder
from utils.errors import DataError
from utils.rng import PURPOSES

RNG = np.random.default_rng(0)
FIRST, SECOND, RATIO = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 6)), RNG.random(40)
MATRIX, SHIFT = RNG.normal(size=(6, 4)), RNG.normal(size=4)


def curved(x):
    return np.tanh(x @ MATRIX + SHIFT)


def loss(f, first=FIRST, second=SECOND, ratio=RATIO):
    mixed = ratio[:, None] * first + (1 - ratio[:, None]) * second
    values = f(mixed)
    return Loss.of(*squares(values, f(first), f(second), ratio), values.shape[1])


def test_four_forms_against_a_loop():
    deviations, distances = [], []
    for x, y, lam in zip(FIRST, SECOND, RATIO):
        difference = curved(lam * x + (1 - lam) * y) - lam * curved(x) - (1 - lam) * curved(y)
        deviations.append(sum(d * d for d in difference))
        distances.append(sum(d * d for d in curved(x) - curved(y)))
    found = loss(curved)
    assert found.squared == pytest.approx(sum(deviations) / 40, rel=1e-12)
    assert found.per_dimension == pytest.approx(sum(deviations) / 160, rel=1e-12)
    assert found.norm == pytest.approx(sum(d**0.5 for d in deviations) / 40, rel=1e-12)
    assert found.relative == pytest.approx(sum(deviations) / sum(distances), rel=1e-12)


def test_an_affine_function_has_none():
    found = loss(lambda x: x @ MATRIX + SHIFT)
    assert max(found.squared, found.norm, found.relative) < 1e-10
    assert loss(curved).squared > 0.1


def test_there_is_none_at_the_ends_and_between_equal_images():
    for ratio in (np.zeros(40), np.ones(40)):
        assert loss(curved, ratio=ratio).squared == 0
    same = loss(curved, second=FIRST)
    assert same.squared < 1e-30
    assert same.relative is None


def test_scale_counts_in_all_but_the_relative_one():
    one, other = loss(curved), loss(lambda x: -3 * curved(x))
    assert other.squared == pytest.approx(9 * one.squared, rel=1e-12)
    assert other.per_dimension == pytest.approx(9 * one.per_dimension, rel=1e-12)
    assert other.norm == pytest.approx(3 * one.norm, rel=1e-12)
    assert other.relative == pytest.approx(one.relative, rel=1e-12)


def test_exchanging_the_images_and_the_shares_changes_nothing():
    one, other = loss(curved), loss(curved, SECOND, FIRST, 1 - RATIO)
    assert other.squared == pytest.approx(one.squared, rel=1e-12)
    assert other.relative == pytest.approx(one.relative, rel=1e-12)


def test_the_square_of_a_number_is_known_exactly():
    x, y = FIRST[:, :1], SECOND[:, :1]
    found = squares((RATIO[:, None] * x + (1 - RATIO[:, None]) * y) ** 2, x**2, y**2, RATIO)
    np.testing.assert_allclose(found[0], (RATIO * (1 - RATIO) * (x - y)[:, 0] ** 2) ** 2, rtol=1e-9, atol=1e-15)


def test_every_image_is_first_once_and_second_once_and_never_meets_itself():
    for count in (2, 3, 50):
        first, second, ratio = pairs(count, "uniform", 1, 0)
        assert sorted(first) == sorted(second) == list(range(count))
        assert (first != second).all()
        assert ratio.shape == (count,)


def test_pairs_depend_on_seed_and_repeat_alone():
    first, second, ratio = pairs(50, "uniform", 1, 0)
    assert all(np.array_equal(*both) for both in zip((first, second, ratio), pairs(50, "uniform", 1, 0)))
    assert all(np.array_equal(*both) for both in zip((first, second), pairs(50, "beta", 1, 0)))
    assert not np.array_equal(first, pairs(50, "uniform", 1, 1)[0])
    assert not np.array_equal(first, pairs(50, "uniform", 2, 0)[0])


def test_ratios_follow_their_law():
    uniform, beta = (pairs(20000, law, 0, 0)[2] for law in ("uniform", "beta"))
    assert stats.kstest(uniform, "uniform").pvalue > 0.001
    assert beta.min() >= 0.5
    folded = stats.kstest(beta, lambda x: stats.beta.cdf(x, 0.2, 0.2) - stats.beta.cdf(1 - x, 0.2, 0.2))
    assert folded.pvalue > 0.001


class Toy(nn.Layer):
    """The function `f` of the images flattened to [B, D] as features; the logits are its first columns."""

    def __init__(self, f, classes=3):
        super().__init__()
        self.f, self.classes = f, classes

    def forward(self, images):
        features = self.f(images.flatten(1))
        return Outputs(features[:, : self.classes], features, ())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    found = scan(write_folder(tmp_path_factory.mktemp("images"), count=4))
    return Dataset.of(StreamedImages(found, Preprocess(32, 37)), found.class_names)


@pytest.fixture(scope="module")
def network():
    paddle.seed(0)
    return build("resnet8", 3)


@pytest.mark.parametrize("law", ["uniform", "beta"])
def test_a_network_against_numpy(images, network, law):
    network.eval()
    pixels = np.concatenate([batch.numpy() for batch, _ in images.batches(5)]).astype("float64")

    def functions(x):
        outputs = network(paddle.to_tensor(x[None].astype("float32")))
        logits = outputs.logits.numpy()[0].astype("float64")
        exps = np.exp(logits - logits.max())
        return {"softmax": exps / exps.sum(), "logits": logits, "features": outputs.features.numpy()[0]}

    rows = {name: [] for name in ("softmax", "logits", "features")}
    for repeat in range(2):
        rng = np.random.default_rng([7, PURPOSES["pairs"], repeat])
        order = rng.permutation(12)
        ratios = rng.random(12) if law == "uniform" else rng.beta(0.2, 0.2, 12)
        for place, drawn in enumerate(ratios):
            lam = drawn if law == "uniform" else max(drawn, 1 - drawn)
            x, y = pixels[order[place]], pixels[order[place - 1]]
            at_mixed, at_x, at_y = functions(lam * x + (1 - lam) * y), functions(x), functions(y)
            for name, values in rows.items():
                difference = at_mixed[name] - lam * at_x[name] - (1 - lam) * at_y[name]
                values.append((difference @ difference, ((at_x[name] - at_y[name]) ** 2).sum()))
    found = Interpolation(network, images, 5, 7).losses(law, 2)
    for name, values in rows.items():
        deviations, distances = np.array(values).T
        mean, dimensions = deviations.mean(), {"features": 64}.get(name, 3)
        wanted = (mean, mean / dimensions, np.sqrt(deviations).mean(), mean / distances.mean())
        got = found[name]
        assert (got.squared, got.per_dimension, got.norm, got.relative) == pytest.approx(wanted, rel=1e-4), name


def test_an_affine_network_has_none(images):
    weight = paddle.to_tensor(np.random.default_rng(1).normal(size=(3 * 32 * 32, 8)).astype("float32"))
    found = Interpolation(Toy(lambda x: x @ weight + 1), images, 8, 0).losses()
    assert found["logits"].relative < 1e-10
    assert found["features"].relative < 1e-10
    assert found["softmax"].relative > 1e-3


def test_the_square_of_the_mean_pixel_is_known(images):
    between = Interpolation(Toy(lambda x: x.mean(axis=1, keepdim=True) ** 2, classes=1), images, 4, 3)
    means = np.concatenate([batch.numpy() for batch, _ in images.batches(4)]).astype("float64").mean(axis=(1, 2, 3))
    first, second, ratio = pairs(12, "uniform", 3, 0)
    wanted = (ratio * (1 - ratio) * (means[first] - means[second]) ** 2) ** 2
    assert between.losses(repeats=1)["features"].squared == pytest.approx(wanted.mean(), rel=1e-4)


def test_a_network_has_none_at_the_ends_and_between_equal_images(images, network):
    between = Interpolation(network, images, 4, 0)
    first, second, _ = pairs(12, "uniform", 0, 0)
    typical = between.between(first, second, np.full(12, 0.5))
    at_ends = [between.between(first, second, np.full(12, ratio)) for ratio in (0.0, 1.0)]
    for found in (*at_ends, between.between(first, first, np.full(12, 0.3))):
        for name in found:
            assert found[name].squared < 1e-9 * typical[name].squared


def test_the_batch_size_does_not_matter(images, network):
    found = [Interpolation(network, images, size, 0).losses(repeats=2) for size in (1, 5, 12, 64)]
    for name in found[0]:
        values = [losses[name].squared for losses in found]
        assert np.ptp(values) < 1e-5 * values[0]


def test_the_network_is_used_in_eval_mode_and_given_back_as_it_was(images, network):
    network.eval()
    wanted = Interpolation(network, images, 4, 0).losses(repeats=1)
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    network.train()
    assert Interpolation(network, images, 4, 0).losses(repeats=1) == wanted
    assert all(layer.training for layer in network.sublayers(include_self=True))
    assert all(np.array_equal(value.numpy(), before[name]) for name, value in network.state_dict().items())


def test_the_curve_is_the_losses_of_the_first_pairs_at_fixed_ratios(images, network, monkeypatch):
    monkeypatch.setattr(interpolation, "CURVE_PAIRS", 5)
    between = Interpolation(network, images, 4, 0)
    curve = between.curve()
    first, second, _ = pairs(12, "uniform", 0, 0)
    assert len(curve) == 11
    assert curve[3] == between.between(first[:5], second[:5], np.full(5, interpolation.CURVE_RATIOS[3]))
    assert curve[0]["features"].relative < 1e-9 < curve[5]["features"].relative


def test_outputs_that_are_all_equal_have_no_relative_loss(images):
    found = Interpolation(Toy(lambda x: x[:, :4] * 0), images, 4, 0).losses(repeats=1)
    assert found["features"] == Loss(0, 0, 0, None)
    assert table(found, 12, "uniform").splitlines()[-1].split() == ["Feature-IL", "0", "0", "0", "-"]


def test_one_image_is_not_enough(images, network):
    with pytest.raises(DataError, match="1 image; interpolation losses need two"):
        Interpolation(network, Dataset.of(images.store, images.class_names, np.array([4])), 4, 0)


def test_the_table_names_every_number(images, network):
    found = Interpolation(network, images, 4, 0).losses(repeats=3)
    lines = table(found, 36, "uniform").splitlines()
    assert "36 pairs, uniform ratio" in lines[0]
    assert [line.split("  ")[-1].strip() for line in lines[1:]] == [f"{f.relative:.4g}" for f in found.values()]
    assert [line[:24].strip() for line in lines[1:]] == ["Label-IL, softmax", "Label-IL, logits", "Feature-IL"]


def test_the_picture_is_drawn(images, network, tmp_path):
    nothing = Loss(0, 0, 0, None)
    flat = [dict.fromkeys(interpolation.TITLES, nothing)] * 11
    draw(tmp_path / "new" / "il.png", {r"$\nowhere$": Interpolation(network, images, 4, 0).curve(), "flat": flat})
    with Image.open(tmp_path / "new" / "il.png") as image:
        assert image.size[0] > 800


def test_the_curve_for_visualdl_is_the_relative_losses_by_the_percentage_of_the_first(images, network, tmp_path):
    curve = Interpolation(network, images, 4, 0).curve()
    for _ in range(2):  # written again, it stands there once
        interpolation.log(tmp_path / "a_Last", curve)
    reader = LogReader(file_path=str(tmp_path / "a_Last" / curves.VISUAL_FILE))
    for name in interpolation.TITLES:
        points = reader.get_data("scalar", f"il/{name}")
        assert [point.id for point in points] == list(range(0, 101, 10))
        assert [point.value for point in points] == pytest.approx([losses[name].relative for losses in curve])

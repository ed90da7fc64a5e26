import itertools

import numpy as np
import paddle
import pytest

from datasets.augment import AUGMENTATIONS, DEFAULT, Augmentation, augment, draw
from datasets.cache import CachedImages
from datasets.folder import scan
from datasets.loader import Dataset, order, training_batches
from datasets.preprocess import MEAN, STD, Preprocess
from tests.pictures import write_folder
from utils.rng import generator

SEED, STEP, BATCH = 3, 5, 6


@pytest.fixture
def images(tmp_path):
    """A set whose pixels are mapped read-only from the disk, as in a run."""
    found = scan(write_folder(tmp_path / "images", count=5))
    store = CachedImages(found, Preprocess(32, 37), tmp_path / "cache")
    store.prepare(range(len(found)), "")
    return Dataset.of(store, found.class_names)


def brighten(image, preprocess, numbers):
    """Add less than 100 grey levels, the same to every pixel."""
    return np.minimum(image.astype("int") + int(100 * numbers[0]), 255).astype("uint8")


@pytest.fixture
def brightness(monkeypatch):
    """All that adding an augmentation takes: a function and an entry."""
    monkeypatch.setitem(AUGMENTATIONS, "brightness", Augmentation(brighten, 1))


def batch(images, step=STEP, **options):
    """Return the pixels of one training batch as uint8 [B, H, W, 3]."""
    normalised = next(training_batches(images, BATCH, SEED, step, **options)).images.numpy().transpose(0, 2, 3, 1)
    return np.round(255 * (normalised * STD + MEAN)).astype("uint8")


def test_crops_reach_every_place_and_flip_half():
    pixels = [np.arange(36 * 36 * 3, dtype="uint32").reshape(36, 36, 3).astype("uint8")] * 400
    draws = draw(DEFAULT, 400, SEED, STEP)
    out = augment(pixels, Preprocess(32, 36), draws)
    places, flips = (draws["crop"] * 5).astype(int), draws["flip"][:, 0] < 0.5
    assert set(map(tuple, places)) == set(itertools.product(range(5), range(5)))
    assert 150 < flips.sum() < 250
    for i, (top, left) in enumerate(places):
        square = pixels[i][top : top + 32, left : left + 32]
        np.testing.assert_array_equal(out[i], square[:, ::-1] if flips[i] else square)


def test_crop_and_flip_keep_the_draw_of_published_runs():
    draws = draw(DEFAULT, BATCH, SEED, STEP)
    recorded = np.random.default_rng([SEED, 1, STEP]).random((BATCH, 3))
    np.testing.assert_array_equal(np.hstack([draws["crop"], draws["flip"]]), recorded)


def test_another_augmentation_disturbs_no_other_draw(images, brightness):
    draws = draw(("flip", "brightness", "crop"), BATCH, SEED, STEP)
    assert list(draws) == ["flip", "brightness", "crop"]
    for name, numbers in draw(DEFAULT, BATCH, SEED, STEP).items():
        np.testing.assert_array_equal(draws[name], numbers)
    plain, brighter = batch(images), batch(images, augmentations=(*DEFAULT, "brightness"))
    assert len(np.unique(draws["brightness"])) == BATCH
    for before, after, numbers in zip(plain, brighter, draws["brightness"]):
        np.testing.assert_array_equal(after, brighten(before, None, numbers))
    np.testing.assert_array_equal(brighter, batch(images, augmentations=("brightness", *DEFAULT)))


def test_numbers_depend_on_seed_step_and_name(brightness, monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS, "contrast", Augmentation(brighten, 1))
    settings = [("brightness", 0, 0), ("brightness", 0, 1), ("brightness", 1, 0), ("contrast", 0, 0)]
    drawn = [draw((name,), 4, seed, step)[name] for name, seed, step in settings]
    assert len({numbers.tobytes() for numbers in drawn}) == 4
    assert not any(np.array_equal(numbers, generator(0, "crop", 0).random((4, 1))) for numbers in drawn)


def test_a_resumed_run_and_each_rank_repeat_the_numbers(images, brightness):
    names = (*DEFAULT, "brightness")
    run = [each.images for each in itertools.islice(training_batches(images, BATCH, SEED, augmentations=names), 4)]
    late = next(training_batches(images, BATCH, SEED, 3, augmentations=names)).images
    assert paddle.equal_all(run[3], late)
    shards = [batch(images, 3, shard=slice(i, i + 3), augmentations=names) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(shards), batch(images, 3, augmentations=names))


def test_without_the_flip_images_are_only_cut(images):
    chosen = images.positions[order(len(images), BATCH, SEED, STEP)]
    places = (draw(DEFAULT, BATCH, SEED, STEP)["crop"] * 6).astype(int)
    for image, square, (top, left) in zip(images.store.pixels(chosen), batch(images, augmentations=("crop",)), places):
        np.testing.assert_array_equal(square, image[top : top + 32, left : left + 32])

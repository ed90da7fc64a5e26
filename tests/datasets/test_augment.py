import itertools

import numpy as np
import paddle
import pytest
from PIL import Image

from datasets import operations
from datasets.augment import AUGMENTATIONS, DEFAULT, JITTER, Augmentation, augment, color_jitter, draw, named
from datasets.cache import CachedImages
from datasets.folder import scan
from datasets.loader import Dataset, normalise, order, training_batches
from datasets.operations import TRIVIAL
from datasets.preprocess import MEAN, STD, Preprocess
from tests.pictures import write_folder
from utils.errors import UsageError
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


# The augmentations that are off by default, against torchvision's definitions written anew


def apply(name, image, numbers, preprocess=None):
    found = AUGMENTATIONS[name].apply(image, preprocess or Preprocess(32, 37), np.array(numbers, dtype="float64"))
    assert found.dtype == np.uint8
    return found


def numbers_of(name, count, seed=0):
    return np.random.default_rng(seed).random((count, AUGMENTATIONS[name].numbers))


def noise(height, width, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")
    image.flags.writeable = False
    return image


def rectangle(uniform, height, width, scale, ratio):
    """Yield height and width of torchvision's attempts; `uniform(low, high)` draws."""
    for _ in range(10):
        area = height * width * uniform(*scale)
        aspect = np.exp(uniform(*np.log(ratio)))
        yield int(round(np.sqrt(area / aspect))), int(round(np.sqrt(area * aspect)))


def in_turn(numbers):
    stream = iter(numbers)
    return lambda low, high: low + next(stream) * (high - low)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(37, 37), (37, 60), (60, 37), (12, 200), (200, 12), (1, 1), (1, 7), (40, 3)])
def test_resized_crops_are_torchvisions(shape, kernel):
    height, width = shape
    image, preprocess = noise(*shape), Preprocess(32, 37, interpolation=kernel)
    for numbers in numbers_of("resized_crop", 20):
        for down, across in rectangle(in_turn(numbers), height, width, (0.08, 1), (3 / 4, 4 / 3)):
            if 0 < across <= width and 0 < down <= height:
                top, left = int(numbers[20] * (height - down + 1)), int(numbers[21] * (width - across + 1))
                break
        else:
            down, across = height, width
            if width / height < 3 / 4:
                down = int(round(width / (3 / 4)))
            elif width / height > 4 / 3:
                across = int(round(height * (4 / 3)))
            top, left = (height - down) // 2, (width - across) // 2
        part = Image.fromarray(image).crop((left, top, left + across, top + down))
        expected = part.resize((32, 32), {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[kernel])
        np.testing.assert_array_equal(apply("resized_crop", image, numbers, preprocess), expected)


def test_resized_crops_have_the_areas_and_shapes_that_are_promised():
    down, across = np.mgrid[:250, :250]  # a crop says by its values where it is from
    image = np.stack([across, down, across], axis=2).astype("uint8")
    boxes = []
    for numbers in numbers_of("resized_crop", 400):
        found = apply("resized_crop", image, numbers).astype("float64")
        left, right, top, bottom = found[0, 0, 0], found[0, -1, 0], found[0, 0, 1], found[-1, 0, 1]
        boxes.append((bottom - top, right - left, top, left))
    height, width, top, left = np.array(boxes).T * 32 / 31
    share = height * width / 250**2
    assert 0.07 < share.min() < 0.12
    assert 0.85 < share.max() <= 1.03
    assert 0.45 < share.mean() < 0.58  # a little below the middle: wide ones fit less often
    assert 0.72 < (width / height).min() < 0.8
    assert 1.25 < (width / height).max() < 1.38
    assert top.max() > 120
    assert left.max() > 120


@pytest.mark.parametrize("shape", [(32, 32), (32, 50), (1, 1), (1, 9), (2, 2)])
@pytest.mark.parametrize("mean", [MEAN, (0.5, 0.5, 0.5), (-1.0, 2.0, 0.0)])
def test_erasing_is_torchvisions(shape, mean):
    height, width = shape
    image, preprocess = noise(*shape), Preprocess(32, 37, mean=mean)
    erased = 0
    for numbers in numbers_of("erase", 60):
        expected = image.copy()
        if numbers[22] < 0.5:
            # torchvision multiplies the height by the aspect
            for across, down in rectangle(in_turn(numbers), height, width, (0.02, 0.33), (0.3, 3.3)):
                if down < height and across < width:
                    top, left = int(numbers[20] * (height - down + 1)), int(numbers[21] * (width - across + 1))
                    colour = [min(max(round(255 * each), 0), 255) for each in mean]
                    expected[top : top + down, left : left + across] = colour
                    break
        found = apply("erase", image, numbers, preprocess)
        np.testing.assert_array_equal(found, expected)
        erased += not np.array_equal(found, image)
    assert 15 < erased < 45 if min(shape) > 1 else erased == 0
    np.testing.assert_array_equal(image, noise(*shape))


def test_what_is_erased_is_nothing_to_the_network():
    numbers = next(each for each in numbers_of("erase", 60) if each[22] < 0.5)
    image, found = noise(32, 32), apply("erase", noise(32, 32), numbers)
    seen = normalise(found[None], Preprocess()).numpy()[0].transpose(1, 2, 0)[(found != image).any(axis=2)]
    assert len(seen) > 10
    assert np.abs(seen).max() < 0.5 / 255 / min(STD) + 1e-6


OPERATIONS = [operations.brightness, operations.contrast, operations.saturation, operations.hue]


def jittered(image, numbers, strengths):
    """Return torchvision's: the operations in the order of the second four numbers, by factors from the first four."""
    image = Image.fromarray(image)
    for place in np.argsort(numbers[4:]):
        strength = strengths[place]
        if strength:
            low, high = (-strength, strength) if place == 3 else (max(0, 1 - strength) - 1, strength)
            image = OPERATIONS[place](image, low + numbers[place] * (high - low))
    return np.asarray(image)


@pytest.mark.parametrize("shape", [(32, 40), (1, 1)])
def test_jitter_is_torchvisions(shape):
    orders = set()
    for numbers in numbers_of("jitter", 60):
        np.testing.assert_array_equal(
            apply("jitter", noise(*shape), numbers), jittered(noise(*shape), numbers, (0.4, 0.4, 0.4, 0.1))
        )
        orders.add(tuple(np.argsort(numbers[4:])))
    assert len(orders) > 18


@pytest.mark.parametrize("strengths", [(0, 0, 0, 0), (3, 0, 0, 0), (0, 2, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0.5)])
def test_the_limits_of_jitter(strengths):
    image, named_strengths = noise(16, 16), dict(zip(JITTER, strengths))
    for numbers in ([0.0] * 4 + [0.1, 0.2, 0.3, 0.4], [1 - 1e-9] * 4 + [0.4, 0.3, 0.2, 0.1]):
        found = color_jitter(image, Preprocess(), np.array(numbers), named_strengths)
        np.testing.assert_array_equal(found, jittered(image, np.array(numbers), strengths))
    if not any(strengths):
        np.testing.assert_array_equal(found, image)
    darkest = color_jitter(image, Preprocess(), np.zeros(8), dict(JITTER, brightness=3, contrast=0, hue=0))
    assert not darkest.any()  # a factor of 0 is the least


def test_grey_images_have_no_colour_to_jitter():
    grey = np.repeat(noise(16, 16)[..., :1], 3, axis=2)
    for numbers in numbers_of("jitter", 20):
        found = apply("jitter", grey, numbers)
        assert (found == found[..., :1]).all()


@pytest.mark.parametrize("shape", [(32, 40), (1, 1)])
def test_trivial_augment_applies_one_operation_with_one_magnitude(shape):
    image, seen = noise(*shape), set()
    for place, bin_number, sign in itertools.product(range(14), (0, 17, 30), (0.49, 0.5)):
        operation = TRIVIAL[place]
        magnitude = operation.magnitudes[bin_number]
        magnitude = -magnitude if operation.signed and sign < 0.5 else magnitude
        expected = np.asarray(operation.apply(Image.fromarray(image), magnitude))
        found = apply("trivial", image, [(place + 0.5) / 14, (bin_number + 0.5) / 31, sign])
        np.testing.assert_array_equal(found, expected)
        seen.add(found.tobytes())
    assert len(seen) > 40 or shape == (1, 1)
    assert apply("trivial", image, [1 - 1e-16, 1 - 1e-16, 0]).shape == image.shape
    assert apply("trivial", image, [0, 0, 0]).shape == image.shape


ALL = ("resized_crop", "flip", "trivial", "jitter", "erase")


def test_all_together_depend_on_seed_step_and_row_alone(images):
    run = [each.images for each in itertools.islice(training_batches(images, BATCH, SEED, augmentations=ALL), 4)]
    late = next(training_batches(images, BATCH, SEED, 3, augmentations=ALL)).images
    assert paddle.equal_all(run[3], late)
    shards = [batch(images, 3, shard=slice(i, i + 3), augmentations=ALL) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(shards), batch(images, 3, augmentations=ALL))
    alone = [batch(images, 3, augmentations=("crop", name)) for name in ALL[2:]]
    assert not any(np.array_equal(each, batch(images, 3, augmentations=("crop",))) for each in alone)


def test_every_augmentation_leaves_its_image_alone():
    for name, each in AUGMENTATIONS.items():
        image = noise(40, 37)  # read-only: writing would be an error
        for numbers in numbers_of(name, 8):
            found = each.apply(image, Preprocess(32, 37), numbers)
            assert found.shape == ((32, 32, 3) if each.crops else image.shape), name
        np.testing.assert_array_equal(image, noise(40, 37))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no augmentation ''; accepted are crop, flip, resized_crop, trivial, jitter, erase"),
        ("crop,flop", "no augmentation 'flop'"),
        ("crop flip", "no augmentation 'crop flip'"),
        ("crop,", "no augmentation ''"),
        ("x" * 1000, "no augmentation 'xxx"),
        ("crop,flip,crop", "--augment crop,flip,crop: one of them is named twice"),
        ("flip", "--augment flip: it crops no image; accepted is a list with crop or resized_crop"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_line(text, message):
    with pytest.raises(UsageError) as caught:
        named(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_names_are_read_in_order():
    assert named("flip, crop") == ("flip", "crop")
    assert named(",".join(DEFAULT)) == DEFAULT

"""The operations against NumPy, pixel by pixel in float64, by what torchvision says of its transforms."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image

from datasets import operations
from datasets.operations import BINS, TRIVIAL

GREY = np.array([0.299, 0.587, 0.114])
KINDS = ["noise", "soft", "flat", "grey", "pixel", "row"]


def some(kind):
    rng = np.random.default_rng(0)
    size = {"pixel": (1, 1), "row": (1, 9)}.get(kind, (12, 17))
    pixels = rng.integers(0, 256, (*size, 3))
    if kind == "soft":
        down, across = np.mgrid[: size[0], : size[1]]
        pixels = np.stack([30 + 8 * down, 200 - 7 * across, 60 + 3 * down + 4 * across], axis=2)
    if kind == "flat":
        pixels[:] = (10, 200, 90)
    if kind == "grey":
        pixels[:] = pixels[..., :1]
    return pixels.astype("uint8")


def close(found, expected, levels=1):
    found, expected = np.asarray(found).astype("float64"), np.clip(expected, 0, 255)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= levels


def blended(pixels, other, magnitude):
    return other + (1 + magnitude) * (pixels - other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("magnitude", [-1, -0.4, 0, 0.4, 0.99])
def test_brightness_saturation_and_contrast_blend_with_black_grey_and_mean_grey(kind, magnitude):
    pixels = some(kind)
    grey = np.repeat((pixels @ GREY)[..., None], 3, axis=2)
    image, exact = Image.fromarray(pixels), pixels.astype("float64")
    close(operations.brightness(image, magnitude), blended(exact, 0, magnitude))
    close(operations.saturation(image, magnitude), blended(exact, grey, magnitude), 2)  # the grey value is rounded
    close(operations.contrast(image, magnitude), blended(exact, grey.mean(), magnitude), 2)


@pytest.mark.parametrize("magnitude", [-1, -0.5, 0, 0.99])
def test_sharpness_blends_with_the_smoothed_image_but_at_the_border(magnitude):
    pixels = some("soft").astype("float64")
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = pixels.copy()
    for row in range(1, len(pixels) - 1):
        for column in range(1, pixels.shape[1] - 1):
            part = pixels[row - 1 : row + 2, column - 1 : column + 2]
            smooth[row, column] = (part * kernel[..., None]).sum(axis=(0, 1))
    close(operations.sharpness(Image.fromarray(some("soft")), magnitude), blended(pixels, smooth, magnitude), 2)


@pytest.mark.parametrize("magnitude", [-0.5, -0.1, 0, 0.1, 1 / 3, 0.5])
def test_the_hue_turns(magnitude):
    pixels = some("soft")
    expected = np.empty(pixels.shape)
    for place in np.ndindex(*pixels.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixels[place] / 255)
        expected[place] = 255 * np.array(colorsys.hsv_to_rgb((hue + magnitude) % 1, saturation, value))
    close(operations.hue(Image.fromarray(pixels), magnitude), expected, 9)  # Pillow's hue has 8 bits
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    close(operations.hue(red, 1 / 3), np.full((2, 2, 3), (0, 255, 0)), 6)


@pytest.mark.parametrize("kind", ["grey", "pixel"])
def test_grey_has_no_hue(kind):
    grey = np.repeat(some(kind)[..., :1], 3, axis=2)
    close(operations.hue(Image.fromarray(grey), 0.3), grey, 0)


def taken(pixels, source):
    """Return the pixel nearest to `source(x, y)`, in pixels from the corner, for each centre x, y; black outside."""
    out = np.zeros_like(pixels)
    for row, column in np.ndindex(*pixels.shape[:2]):
        x, y = (int(np.floor(each)) for each in source(column + 0.5, row + 0.5))
        if 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]:
            out[row, column] = pixels[y, x]
    return out


@pytest.mark.parametrize("kind", ["noise", "pixel", "row"])
@pytest.mark.parametrize("magnitude", [-0.99, -0.33, 0, 0.066, 0.5, 0.99])
def test_shears(kind, magnitude):
    pixels = some(kind)
    image = Image.fromarray(pixels)
    sheared = [operations.shear_x(image, magnitude), operations.shear_y(image, magnitude)]
    np.testing.assert_array_equal(sheared[0], taken(pixels, lambda x, y: (x + magnitude * y, y)))
    np.testing.assert_array_equal(sheared[1], taken(pixels, lambda x, y: (x, y + magnitude * x)))


@pytest.mark.parametrize("kind", ["noise", "pixel", "row"])
@pytest.mark.parametrize("magnitude", [-32, -1.9, -0.9, 0, 0.9, 3.2, 32])
def test_translations_are_whole_pixels(kind, magnitude):
    pixels, shift = some(kind), int(magnitude)
    image = Image.fromarray(pixels)
    right, down = operations.translate_x(image, magnitude), operations.translate_y(image, magnitude)
    np.testing.assert_array_equal(right, taken(pixels, lambda x, y: (x - shift, y)))
    np.testing.assert_array_equal(down, taken(pixels, lambda x, y: (x, y - shift)))


@pytest.mark.parametrize("degrees", [-133.7, -90, -31.5, 0, 4.5, 44.3, 90, 133.7])
def test_rotation_is_counter_clockwise_around_the_centre(degrees):
    pixels = some("noise")[:, :12]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def source(x, y):
        x, y = x - 6, y - 6
        return cos * x - sin * y + 6, sin * x + cos * y + 6

    found = np.asarray(operations.rotate(Image.fromarray(pixels), degrees))
    same = (found == taken(pixels, source)).all(axis=2)
    assert same.mean() > 0.97  # one on the edge between two pixels may be rounded to either
    if degrees % 90 == 0:
        np.testing.assert_array_equal(found, np.rot90(pixels, degrees // 90))


@pytest.mark.parametrize("kind", KINDS)
def test_posterize_solarize_autocontrast_and_equalize(kind):
    pixels = some(kind)
    image = Image.fromarray(pixels)
    for bits in (8, 5, 2):
        np.testing.assert_array_equal(operations.posterize(image, bits), pixels // 2 ** (8 - bits) * 2 ** (8 - bits))
    for threshold in (255.0, 127.5, 0.0):
        expected = np.where(pixels < threshold, pixels, 255 - pixels)
        np.testing.assert_array_equal(operations.solarize(image, threshold), expected)
    stretched, equal = (np.asarray(TRIVIAL[place].apply(image, 0)) for place in (12, 13))
    for channel in range(3):
        values = pixels[..., channel].astype("float64")
        low, high = values.min(), values.max()
        expected = values if low == high else (values - low) * 255 / (high - low)
        close(stretched[..., channel], expected)
        np.testing.assert_array_equal(equal[..., channel], equalized(pixels[..., channel]))


def equalized(values):
    """Return the equalisation as torchvision defines it: by the cumulative histogram before each level."""
    counts = np.bincount(values.ravel(), minlength=256)
    step = counts[counts > 0][:-1].sum() // 255
    if step == 0:
        return values
    table = (np.cumsum(counts) - counts + step // 2) // step
    return np.clip(table, 0, 255)[values]


def test_the_space_is_trivialaugments_wide_one():
    functions = [operation.apply.__name__ for operation in TRIVIAL[1:-2]]
    assert functions == [
        "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation", "contrast",
        "sharpness", "posterize", "solarize",
    ]  # fmt: skip
    strongest = [operation.magnitudes[-1] for operation in TRIVIAL]
    assert strongest == [0, 0.99, 0.99, 32, 32, 135, 0.99, 0.99, 0.99, 0.99, 2, 0, 0, 0]
    assert [operation.magnitudes[0] for operation in TRIVIAL] == [0] * 10 + [8, 255, 0, 0]
    assert [operation.signed for operation in TRIVIAL] == [False, *[True] * 9, *[False] * 4]
    assert all(len(operation.magnitudes) == BINS == 31 for operation in TRIVIAL)
    assert [(TRIVIAL[10].magnitudes == bits).sum() for bits in range(8, 1, -1)] == [3, 5, 5, 5, 5, 5, 3]
    image = Image.fromarray(some("noise"))
    np.testing.assert_array_equal(TRIVIAL[0].apply(image, 0), some("noise"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weakest_of_each_but_two_is_nothing(kind):
    pixels = some(kind)
    for operation in TRIVIAL[:-3]:
        np.testing.assert_array_equal(operation.apply(Image.fromarray(pixels), operation.magnitudes[0]), pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_keeps_size_mode_and_its_argument(kind):
    image = Image.fromarray(some(kind))
    for operation in TRIVIAL:
        strongest = operation.magnitudes[-1]
        for magnitude in (strongest, -strongest if operation.signed else strongest):
            found = operation.apply(image, magnitude)
            assert (found.size, found.mode) == (image.size, "RGB")
    np.testing.assert_array_equal(image, some(kind))

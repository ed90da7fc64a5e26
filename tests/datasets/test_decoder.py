import io
import os
import subprocess

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from datasets.decoder import BACKGROUND, opened, to_rgb, turn_of, upright_size
from datasets.preprocess import MOST_ELONGATED, Preprocess, decode, size_after_resize
from tests.pictures import picture, sideways
from utils.errors import DataError

SQUARE, RAGGED = Preprocess(32, 37), Preprocess(32, 37, keep_aspect=True)


def pixels(image: Image.Image, form: str, **options) -> np.ndarray:
    """Save `image` and return its pixels as they are read again."""
    content = io.BytesIO()
    image.save(content, form, **options)
    with opened(content, "x") as read:
        return np.asarray(to_rgb(read))


ORDINARY = [
    ("1", ("PNG", "TIFF", "BMP")),
    ("L", ("PNG", "TIFF", "BMP", "GIF", "JPEG", "PPM", "WEBP")),
    ("P", ("PNG", "TIFF", "BMP", "GIF")),
    ("RGB", ("PNG", "TIFF", "BMP", "JPEG", "PPM", "WEBP")),
    ("CMYK", ("TIFF", "JPEG")),
    ("YCbCr", ("TIFF", "JPEG")),
    ("LAB", ("TIFF",)),
]


@pytest.mark.parametrize("mode, form", [(mode, form) for mode, forms in ORDINARY for form in forms])
def test_ordinary_images_are_converted_by_pillow(mode, form):
    image = picture(0, 1)
    image = Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image.convert(mode)
    content = io.BytesIO()
    image.save(content, form)
    with Image.open(content) as read:
        np.testing.assert_array_equal(pixels(image, form), np.asarray(read.convert("RGB")))


@pytest.mark.parametrize("mode, form", [("RGBA", "PNG"), ("RGBA", "TIFF"), ("LA", "PNG"), ("PA", "PNG")])
def test_an_opaque_image_is_the_same_with_an_alpha_channel(mode, form):
    image = picture(0, 1).convert("L" if mode == "LA" else "RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    if mode == "PA":  # no format holds it; the conversion is checked alone
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))
    else:
        np.testing.assert_array_equal(pixels(image, form), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("form, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_colours_under_full_transparency_do_not_matter(form, options):
    seen = []
    for hidden in ((0, 0, 0), (0, 255, 0)):
        values = np.zeros((9, 9, 4), "uint8")
        values[..., :3] = hidden
        values[3:6, 3:6] = 200, 30, 40, 255
        seen.append(pixels(Image.fromarray(values), form, **options))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert tuple(seen[0][0, 0]) == BACKGROUND
    assert tuple(seen[0][4, 4]) == (200, 30, 40)


def test_half_transparent_pixels_are_mixed_with_the_background():
    np.testing.assert_array_equal(pixels(Image.new("RGBA", (2, 2), (0, 100, 255, 51)), "PNG")[0, 0], (204, 224, 255))
    np.testing.assert_array_equal(pixels(Image.new("LA", (2, 2), (0, 51)), "PNG")[0, 0], (204, 204, 204))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_the_transparent_colour_of_a_palette(form, transparency):
    if form == "GIF" and isinstance(transparency, bytes):
        pytest.skip("GIF has one transparent colour only")
    image = Image.fromarray(np.array([[0, 1], [0, 1]], "uint8")).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = pixels(image, form, transparency=transparency)
    assert (tuple(found[0, 0]), tuple(found[0, 1])) == ((10, 20, 30), BACKGROUND)


@pytest.mark.parametrize("mode, key", [("RGB", (1, 2, 3)), ("L", 7)])
def test_a_colour_key(mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), 9 if mode == "L" else (9, 9, 9))
    assert pixels(image, "PNG", transparency=key)[0].tolist() == [list(BACKGROUND), [9, 9, 9]]


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_frame_of_an_animation_counts(first):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for form in ("GIF", "TIFF"):
        found = pixels(frames[first], form, save_all=True, append_images=[frames[1 - first]])
        np.testing.assert_array_equal(found, np.asarray(frames[first]))


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32"])
@pytest.mark.parametrize("form", ["TIFF", "PNG"])
def test_deeper_grey_images_look_like_their_8_bit_twins(dtype, form):
    values = np.arange(64 * 64).reshape(64, 64) % 200 + 30
    if form == "PNG" and dtype != "uint16":
        pytest.skip("PNG has 16 bits at most")
    twin = pixels(Image.fromarray(values.astype("uint8")), form)
    np.testing.assert_array_equal(pixels(Image.fromarray(values.astype(dtype)), form), twin)
    np.testing.assert_array_equal(pixels(Image.fromarray((values * 257).astype(dtype)), form), twin)


@pytest.mark.parametrize("values", [[[-1, 5]], [[0, 65536]], [[0, 2**31 - 1]]])
def test_integers_beyond_16_bits_are_refused(values):
    with pytest.raises(DataError, match="cannot read the image x: 32-bit pixels; accepted are 8 and 16 bits"):
        pixels(Image.fromarray(np.array(values, "int32")), "TIFF")


@pytest.mark.parametrize("scale", [1, 255, 65535])
def test_floating_point_pixels_are_refused(scale):
    with pytest.raises(DataError, match="floating-point pixels; accepted are 8 and 16 bits"):
        pixels(Image.fromarray(np.linspace(0, scale, 64, dtype="float32").reshape(8, 8)), "TIFF")


OTHER = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n{} loop\n%%EOF\n",
    "a DOS EPS": b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + bytes(22) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "XPM": b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000000", "a"};',
    "a PDF": b"%PDF-1.4\n",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
}


@pytest.mark.parametrize("kind", OTHER)
def test_other_formats_reach_no_decoder_and_no_program(kind, tmp_path, monkeypatch):
    path = tmp_path / "photo.jpg"
    path.write_bytes(OTHER[kind])
    for owner, name in ((subprocess, "Popen"), (os, "system")):
        monkeypatch.setattr(owner, name, lambda *a, **k: pytest.fail("a program was started"))
    for read in (decode, size_after_resize):
        with pytest.raises(DataError, match=r"photo.jpg: not an image of a known format; accepted are JPEG PNG"):
            read(path, RAGGED)


ERRORS = [
    AssertionError, AttributeError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError, OSError,
    OverflowError, RecursionError, RuntimeError, SyntaxError, TypeError, UserWarning, ValueError, ZeroDivisionError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["open", "load", "resize"])
def test_whatever_a_decoder_raises_names_the_image(error, where, tmp_path, monkeypatch):
    picture(0).save(tmp_path / "a.png")

    def fail(*_, **__):
        raise error

    owner = Image if where == "open" else Image.Image
    monkeypatch.setattr(owner, {"load": "convert"}.get(where, where), fail)
    with pytest.raises(DataError, match=f"cannot read the image .*a.png: {error.__name__}"):
        decode(tmp_path / "a.png", SQUARE)


@pytest.mark.parametrize("size", [(60000, 1), (1, 60000), (36 * MOST_ELONGATED + 1, 36)])
def test_an_elongated_image_is_refused_only_when_its_aspect_is_kept(size, tmp_path):
    Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "thin.png")
    for read in (decode, size_after_resize):
        with pytest.raises(DataError, match=f"thin.png: {size[0]} x {size[1]} pixels; accepted .* up to 50 times"):
            read(tmp_path / "thin.png", RAGGED)
    assert decode(tmp_path / "thin.png", SQUARE).shape == (37, 37, 3)


def test_a_long_image_is_still_accepted(tmp_path):
    Image.new("RGB", (36 * MOST_ELONGATED, 36)).save(tmp_path / "long.png")
    assert decode(tmp_path / "long.png", RAGGED).shape == (37, 37 * MOST_ELONGATED, 3)


def test_a_device_is_refused_and_not_read(tmp_path):
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="endless.jpg: not a regular file"):
        decode(tmp_path / "endless.jpg", SQUARE)


# the rows and columns of the file as the EXIF standard says where they belong
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_eight_orientations(orientation, form, tmp_path):
    path = sideways(tmp_path / f"a.{form}", picture(0, 1, (50, 36)), orientation)
    with opened(path) as image:
        assert turn_of(image) == {1: None}.get(orientation, turn_of(image))
        size, plain, found = upright_size(image), np.asarray(to_rgb(image)), to_rgb(image, upright=True)
    assert plain.shape == (36, 50, 3)
    assert found.size == size
    np.testing.assert_array_equal(np.asarray(found), UPRIGHT[orientation](plain))
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P"])
def test_every_mode_is_turned(mode, orientation, tmp_path):
    image = picture(0, 1, (9, 7))
    deep = np.arange(63, dtype="uint16").reshape(7, 9) * 900
    image = Image.fromarray(deep) if mode == "I;16" else image.convert(mode)
    with opened(sideways(tmp_path / "a.png", image, orientation)) as read:
        plain, found = np.asarray(to_rgb(read)), np.asarray(to_rgb(read, upright=True))
    np.testing.assert_array_equal(found, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pillow_turns_tiff_itself_and_it_is_not_turned_twice(orientation, tmp_path):
    image = picture(0, 1, (9, 7))
    path = sideways(tmp_path / "a.tif", image, orientation)
    for upright in (False, True):
        with opened(path) as read:
            assert upright_size(read) == (9, 7)[:: -1 if orientation > 4 else 1]
        with opened(path) as read:
            np.testing.assert_array_equal(np.asarray(to_rgb(read, upright)), UPRIGHT[orientation](np.asarray(image)))


def exif(orientation):
    entry = Image.Exif()
    entry[ExifTags.Base.Orientation] = orientation
    return entry.tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("content", [b"", b"Exif\0\0", b"Exif\0\0nonsense", exif(6)[:-7], exif(0), exif(9)])
def test_a_damaged_orientation_is_none(content, tmp_path):
    picture(0, 1, (9, 7)).save(tmp_path / "a.jpg", exif=content)
    with opened(tmp_path / "a.jpg") as image:
        assert upright_size(image) == (9, 7)
        np.testing.assert_array_equal(np.asarray(to_rgb(image, upright=True)), np.asarray(to_rgb(image)))


def test_a_png_may_have_it_behind_the_pixels(tmp_path):
    content = sideways(tmp_path / "a.png", picture(0, 1, (9, 7))).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start:end], content[:start] + content[end:]
    (tmp_path / "a.png").write_bytes(rest[:-12] + chunk + rest[-12:])  # IEND takes 12 bytes
    assert b"eXIf" not in rest
    with opened(tmp_path / "a.png") as image:
        assert upright_size(image) == (7, 9)

import os

import numpy as np
import paddle.vision.transforms as T
import pytest
from PIL import Image, ImageOps

from datasets.preprocess import Preprocess, decode, size_after_resize
from tests.pictures import picture, sideways, write_odd_folder
from utils.errors import DataError


@pytest.mark.parametrize("size", [(50, 36), (36, 50), (40, 40), (37, 90)])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_resize_equals_paddle_vision(tmp_path, size, keep_aspect):
    picture(0, 1, size).save(tmp_path / "a.png")
    ours = decode(tmp_path / "a.png", Preprocess(32, 37, keep_aspect))
    transform = T.Resize(37 if keep_aspect else (37, 37), interpolation="bilinear")
    theirs = np.asarray(transform(Image.open(tmp_path / "a.png").convert("RGB")))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.shape[1::-1] == size_after_resize(tmp_path / "a.png", Preprocess(32, 37, keep_aspect))


def test_every_mode_becomes_rgb(tmp_path):
    root = write_odd_folder(tmp_path)
    for path in root.rglob("*.*"):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
            assert decode(path, Preprocess(32, 37)).shape == (37, 37, 3)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_of_sixteen_bits_the_upper_eight_count(tmp_path, dtype):
    values = np.arange(37 * 37).reshape(37, 37) * 47 + 3
    Image.fromarray(values.astype(dtype)).save(tmp_path / "a.tif")
    found = decode(tmp_path / "a.tif", Preprocess(32, 37))
    np.testing.assert_array_equal(found, np.repeat((values // 256)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("values", [np.full((9, 9), 0.5, "float32"), np.full((9, 9), 1 << 20, "int32")])
def test_more_bits_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="a.tif: .*accepted are 8 and 16 bits"):
        decode(tmp_path / "a.tif", Preprocess(32, 37))


def test_an_image_of_the_right_size_is_not_resampled(tmp_path):
    image = picture(3, 2, (37, 37))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", Preprocess(32, 37)), np.asarray(image))


def _truncated(path):
    picture(0, 0, (400, 300)).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: path.write_text("hello"), "not an image"),
        (_truncated, "truncated"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: None, "No such file"),
        (lambda path: Image.new("1", (20000, 20000)).save(path, format="PNG"), "decompression bomb"),
    ],
)
@pytest.mark.parametrize("read", [decode, size_after_resize])
def test_what_cannot_be_read_is_named(tmp_path, spoil, reason, read):
    path = tmp_path / "bad.jpg"
    spoil(path)
    if read is size_after_resize and reason == "truncated":
        return  # the header is whole
    with pytest.raises(DataError, match=reason) as caught:
        read(path, Preprocess(32, 37, keep_aspect=True))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_named_pipe_is_refused_and_not_waited_for(keep_aspect, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    preprocess = Preprocess(keep_aspect=keep_aspect)
    with pytest.raises(DataError, match="pipe.jpg: a named pipe"):
        decode(tmp_path / "pipe.jpg", preprocess)
    if keep_aspect:
        with pytest.raises(DataError, match="pipe.jpg: a named pipe"):
            size_after_resize(tmp_path / "pipe.jpg", preprocess)


def test_the_kernel_of_the_resize_is_the_given_one(tmp_path):
    image = picture(0, 1, (50, 36))
    image.save(tmp_path / "a.png")
    bicubic = decode(tmp_path / "a.png", Preprocess(32, 37, interpolation="bicubic"))
    np.testing.assert_array_equal(bicubic, np.asarray(image.convert("RGB").resize((37, 37), Image.BICUBIC)))
    assert not np.array_equal(bicubic, decode(tmp_path / "a.png", Preprocess(32, 37)))


def test_an_entry_of_three_keys_has_the_ordinary_normalisation():
    old = Preprocess(**{"image_size": 32, "resize_size": 37, "keep_aspect": True})
    assert old == Preprocess(32, 37, True, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
    assert Preprocess(**{**old.to_dict(), "mean": list(old.mean)}) == old
    assert hash(Preprocess(mean=[0, 0, 0])) == hash(Preprocess(mean=(0, 0, 0)))


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("form", ["jpg", "png", "tif"])
def test_an_image_is_turned_before_it_is_resized(keep_aspect, form, tmp_path):
    obeyed, ignored = (Preprocess(32, 37, keep_aspect, orientation=each) for each in ("exif", "ignore"))
    path = sideways(tmp_path / f"a.{form}", picture(0, 1, (90, 60)))
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).save(tmp_path / "upright.png")
        image.convert("RGB").save(tmp_path / "lying.png", exif=b"")
    found = decode(path, obeyed)
    np.testing.assert_array_equal(found, decode(tmp_path / "upright.png", ignored))
    assert found.shape == ((55, 37, 3) if keep_aspect else (37, 37, 3))
    assert size_after_resize(path, obeyed) == found.shape[1::-1]
    if form != "tif":
        np.testing.assert_array_equal(decode(path, ignored), decode(tmp_path / "lying.png", obeyed))
        assert size_after_resize(path, ignored) == decode(path, ignored).shape[1::-1]


def test_images_without_an_orientation_have_the_same_bits(tmp_path):
    for path in write_odd_folder(tmp_path).rglob("*.*"):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
            for keep_aspect in (False, True):
                obeyed, ignored = (Preprocess(32, 37, keep_aspect, orientation=each) for each in ("exif", "ignore"))
                np.testing.assert_array_equal(decode(path, obeyed), decode(path, ignored))


def test_a_damaged_png_is_refused_with_either_orientation(tmp_path):
    path = sideways(tmp_path / "a.png", picture(0, 0, (200, 100)))
    path.write_bytes(path.read_bytes()[:3000])
    for orientation in ("exif", "ignore"):
        with pytest.raises(DataError, match="a.png"):
            decode(path, Preprocess(32, 37, True, orientation=orientation))


def test_an_entry_without_an_orientation_ignores_it():
    assert Preprocess(**{"image_size": 32, "resize_size": 37, "keep_aspect": True}).orientation == "ignore"

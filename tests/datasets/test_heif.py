"""HEIC and AVIF: read where they can be, else named with the package to install."""

import io
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile

from datasets import decoder, heif
from datasets.decoder import opened, to_rgb
from datasets.folder import is_image, remarks, scan
from datasets.preprocess import Preprocess, decode
from evaluation import prediction
from tests.pictures import picture, sideways, write_folder
from tests.scripts import call
from tests.toy_checkpoints import write_checkpoint
from utils.errors import DataError

INSTALL = "HEIC, which is not read here: pip install pillow-heif"


def ftyp(major: bytes, *brands: bytes) -> bytes:
    """Return the first box of a file, with its brands."""
    return struct.pack(">I4s4sI", 16 + 4 * len(brands), b"ftyp", major, 0) + b"".join(brands)


HEIC = ftyp(b"heic", b"mif1", b"heic")


class StandIn(ImageFile.ImageFile):
    """The content of a PNG behind the first box of a HEIC file."""

    format = "HEIF"

    def _open(self):
        if self.fp.read(len(HEIC)) != HEIC:
            raise SyntaxError("not HEIC")
        self.inner = Image.open(io.BytesIO(self.fp.read()))
        self._size, self._mode = self.inner.size, self.inner.mode

    def load(self):
        self.inner.load()
        self.im = self.inner.im
        return Image.Image.load(self)


@pytest.fixture(autouse=True)
def forgotten():
    """Forget before and after each test what can be decoded."""
    for function in (heif.decoder, decoder._formats):
        function.cache_clear()
    yield
    for function in (heif.decoder, decoder._formats):
        function.cache_clear()


@pytest.fixture
def without(monkeypatch):
    """An installation without pillow-heif."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.fixture
def plugin(monkeypatch):
    """An installation with a stand-in for pillow-heif."""
    for name in ("OPEN", "ID"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())
    Image.init()
    stand_in = SimpleNamespace(register_heif_opener=lambda: Image.register_open("HEIF", StandIn))
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)


def write_heic(path, image) -> None:
    content = io.BytesIO()
    image.save(content, "PNG")
    path.write_bytes(HEIC + content.getvalue())


def test_a_kind_is_told_by_its_brands():
    assert heif.of_content(HEIC) == "HEIC"
    for major in (b"heix", b"mif1", b"msf1", b"hevc"):
        assert heif.of_content(ftyp(major)) == "HEIC"
    assert heif.of_content(ftyp(b"mif1", b"miaf", b"avif")) == heif.of_content(ftyp(b"avif", b"mif1")) == "AVIF"
    assert heif.of_content(ftyp(b"mp42", b"isom")) is None  # a film
    assert heif.of_content(ftyp(b"isom") + b"avif") is None  # of the next box
    for other in (b"", b"\0\0\0\x18ftyp", b"\xff\xd8\xff\xe0" * 9, b"\0" * 300):
        assert heif.of_content(other) is None
    assert [heif.of_name(name) for name in ("a.HEIC", "b.heif", "c.hif", "d.Avif", "e.jpg", "heic")] == [
        *["HEIC"] * 3, "AVIF", None, None
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg"])  # as some phones call them
def test_without_the_plugin_the_line_names_the_package(name, without, tmp_path):
    write_heic(tmp_path / name, picture(0))
    with pytest.raises(DataError) as raised:
        decode(tmp_path / name, Preprocess(32, 37))
    assert str(raised.value) == f"cannot read the image {tmp_path / name}: {INSTALL}"
    with pytest.raises(DataError, match=f"an upload: {INSTALL}$"), opened(io.BytesIO(HEIC), "an upload"):
        pass


def test_without_the_plugin_a_folder_leaves_them_out_and_says_what_reads_them(without, tmp_path):
    write_folder(tmp_path, ("a", "b"), count=2)
    write_heic(tmp_path / "a" / "1.HEIC", picture(0))
    found = scan(tmp_path)
    assert len(found) == 4
    assert remarks(found) == [f"{tmp_path}: left out: 1 .heic (pip install pillow-heif to read HEIC)"]


def test_with_the_plugin_they_are_images_among_others(plugin, tmp_path):
    write_folder(tmp_path, ("a", "b"), count=1)
    write_heic(tmp_path / "a" / "1.HEIC", picture(0))
    write_heic(tmp_path / "b" / "as_a.jpg", picture(1))
    assert scan(tmp_path).paths == ["a/000.png", "a/1.HEIC", "b/000.png", "b/as_a.jpg"]
    for path, seed in (("a/1.HEIC", 0), ("b/as_a.jpg", 1)):
        with opened(tmp_path / path) as image:
            np.testing.assert_array_equal(np.asarray(to_rgb(image, upright=True)), np.asarray(picture(seed)))
    upload = (tmp_path / "a" / "1.HEIC").read_bytes()
    for source in (upload, io.BytesIO(upload)):
        with opened(source, "an upload") as image:
            assert image.size == picture(0).size
    (tmp_path / "a" / "1.HEIC").write_bytes(ftyp(b"heic") + b"damaged")
    with pytest.raises(DataError, match="1.HEIC: not an image of a known format"), opened(tmp_path / "a" / "1.HEIC"):
        pass


def test_predict_names_the_package_and_takes_the_file_for_an_image(without, tmp_path):
    write_checkpoint(tmp_path / "toy.pdparams", ["cat", "dog", "emu"])
    write_heic(tmp_path / "photo.heic", picture(0))
    done = call("predict.py", "--gpu", "-1", "--ckpts", "toy.pdparams", "photo.heic", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, f"error: cannot read the image photo.heic: {INSTALL}\n")
    with pytest.raises(DataError, match="no images in it"):
        prediction.image_files(str(tmp_path), "photos")


def test_a_pillow_without_avif_names_the_newer_one(monkeypatch, tmp_path):
    Image.init()
    monkeypatch.setattr(Image, "SAVE", {name: save for name, save in Image.SAVE.items() if name != "AVIF"})
    path = tmp_path / "a.avif"
    path.write_bytes(ftyp(b"avif", b"mif1", b"miaf"))
    assert not is_image("a.avif")
    with pytest.raises(DataError, match=r"a\.avif: AVIF, which is not read here: pip install --upgrade pillow$"):
        decode(path, Preprocess(32, 37))


def test_avif_of_pillow_is_an_image_and_upright(tmp_path):
    if heif.decoder("AVIF") is None:
        pytest.skip("this Pillow does not read AVIF")
    assert is_image("a.AVIF")
    path = sideways(tmp_path / "a.avif", picture(0, size=(40, 24)))
    with opened(path) as image:
        assert to_rgb(image, upright=True).size == (24, 40)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError, match=r"cannot read the image .*a\.avif"):
        decode(path, Preprocess(32, 37))


def test_a_real_heic_of_pillow_heif(tmp_path):
    writer = pytest.importorskip("pillow_heif", reason="pip install pillow-heif")
    assert is_image("a.heic")
    image = Image.new("RGB", (64, 48), (30, 120, 220))
    image.paste((240, 20, 10), (0, 0, 32, 48))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6
    writer.from_pillow(image).save(tmp_path / "a.heic", quality=95)
    writer.from_pillow(image).save(tmp_path / "turned.heic", quality=95, exif=exif.tobytes())
    pixels = decode(tmp_path / "a.heic", Preprocess(32, 32)).astype(int)
    assert abs(pixels[16, 4] - (240, 20, 10)).max() < 12
    assert abs(pixels[16, 27] - (30, 120, 220)).max() < 12
    with opened(tmp_path / "turned.heic") as turned:
        assert to_rgb(turned, upright=True).size == (48, 64)
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read the image .*a\.heic"):
        decode(tmp_path / "a.heic", Preprocess(32, 32))

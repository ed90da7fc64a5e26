"""What --check_data says of two folders that hold one of everything, and the picture of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import check, sheet
from datasets.cache import StreamedImages
from datasets.check import check_data
from datasets.folder import scan
from datasets.lists import read_list
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from tests.pictures import picture, sideways, write_folder
from utils.errors import DataError, UsageError


def dataset(folder, names=("cat", "dog", "emu")) -> Dataset:
    return Dataset.of(StreamedImages(folder, Preprocess(32, 37)), list(names))


@pytest.fixture
def folders(tmp_path):
    """Images of 40 x 32 in both folders, and beside them what is unusual; their paths."""
    train, test = write_folder(tmp_path / "train"), write_folder(tmp_path / "test", count=2, seed=1)
    picture(50, 0, (7, 9)).convert("L").save(train / "cat" / "tiny.png")
    sideways(train / "dog" / "large.jpg", picture(51, 1, (80, 60)))
    shutil.copy(train / "cat" / "000.png", train / "emu" / "as_emu.png")
    shutil.copy(train / "dog" / "001.png", train / "dog" / "twice.png")
    shutil.copy(train / "dog" / "002.png", test / "dog" / "leak.png")
    (train / "emu" / "broken.png").write_bytes(b"\x89PNG broken")
    (train / "emu" / "notes.txt").write_text("x")
    (train / ".old").mkdir()
    return train, test


def test_everything_that_is_in_the_folders_is_a_line(folders):
    train, test = folders
    lines = []
    check_data(dataset(scan(train)), dataset(scan(test)), lines.append)
    assert lines[0].startswith(f"check: cannot read the image {train}/emu/broken.png: ")
    assert lines[1:] == [
        f"check: {train}: left out: 1 hidden folders, 1 .txt",
        f"check: {train}/.old is hidden and passed over",
        "check: class cat: 5 training and 2 evaluation images",
        "check: class dog: 6 training and 3 evaluation images",
        "check: class emu: 6 training and 2 evaluation images",
        "check: 3 classes, 5 to 6 training images in each",
        "check: training images: smallest: 7 x 9 pixels, cat/tiny.png; largest: 80 x 60 pixels, dog/large.jpg",
        "check: training images: colour modes: RGB (15), L (1)",
        "check: training images: EXIF orientations: none (15), 6 (1)",
        "check: evaluation images: smallest: 40 x 32 pixels, cat/000.png; largest: 40 x 32 pixels, emu/001.png",
        "check: evaluation images: colour modes: RGB (7)",
        "check: evaluation images: EXIF orientations: none (7)",
        f"check: the same file for training and for evaluation: {train}/dog/002.png and {test}/dog/leak.png",
        f"check: the same content in 2 classes: {train}/cat/000.png (cat) and {train}/emu/as_emu.png (emu)",
        "check: 1 training images are copies of others of their class",
        "check: 17 training and 7 evaluation images read, 1 unreadable, 1 in both",
    ]


def test_one_content_in_two_classes_of_two_folders_is_found(tmp_path):
    train, test = write_folder(tmp_path / "train"), write_folder(tmp_path / "test", count=1, seed=1)
    shutil.copy(train / "cat" / "000.png", test / "dog" / "x.png")
    lines = []
    check_data(dataset(scan(train)), dataset(scan(test)), lines.append)
    said = f"check: the same content in 2 classes: {train}/cat/000.png (cat) and {test}/dog/x.png (dog)"
    assert said in lines


def test_a_set_is_not_its_own_double(tmp_path):
    train = dataset(scan(write_folder(tmp_path)))
    lines = []
    check_data(train, train, lines.append)
    assert lines[-1] == "check: 12 training and 12 evaluation images read, 0 unreadable, 0 in both"
    assert not any("same" in line or "copies" in line for line in lines)


def test_a_damaged_orientation_is_counted(tmp_path, monkeypatch):
    def damaged(_):
        raise SyntaxError("not EXIF")

    monkeypatch.setattr(check, "orientation_of", damaged)
    images = dataset(scan(write_folder(tmp_path)))
    lines = []
    check_data(images, images, lines.append)
    assert "check: training images: EXIF orientations: damaged (12)" in lines


def test_an_evaluation_image_that_cannot_be_read_ends_it_after_the_report(folders):
    train, test = folders
    (test / "cat" / "000.png").write_bytes(b"")
    lines = []
    with pytest.raises(DataError, match="^1 evaluation images cannot be read, listed above"):
        check_data(dataset(scan(train)), dataset(scan(test)), lines.append)
    assert lines[-1].endswith("2 unreadable, 1 in both")


def test_the_images_of_a_list(tmp_path):
    write_folder(tmp_path / "images")
    rows = [f"images/{name}/00{i}.png,{name}" for name in ("cat", "dog", "emu") for i in range(3)]
    (tmp_path / "a.csv").write_text("\n".join(["path,label", *rows]))
    images = dataset(read_list(tmp_path / "a.csv"))
    lines = []
    check_data(images, images, lines.append, tmp_path / "a.png")
    assert "check: class dog: 3 training and 3 evaluation images" in lines
    assert (tmp_path / "a.png").exists()


def test_the_picture_has_a_row_for_each_class(folders, tmp_path, monkeypatch):
    drawn = []
    contact_sheet = sheet.contact_sheet
    monkeypatch.setattr(sheet, "contact_sheet", lambda *words: drawn.append(words) or contact_sheet(*words))
    train, test = folders
    lines, path = [], tmp_path / "out" / "pets_data.png"
    check_data(dataset(scan(train)), dataset(scan(test)), lines.append, path)
    assert lines[-1] == f"check: {path}: a few training images of each class"
    ((_, title, tiles, columns),) = drawn
    assert title == f"{train}: 17 training images of 3 classes"
    assert columns == 5
    assert [tile.name for tile in tiles] == ["cat"] * 5 + ["dog"] * 5 + ["emu"] * 5
    assert all(tile.share is None and Path(tile.path).parent.name == tile.name for tile in tiles)
    assert [tile.note for tile in tiles[10:]] == ["000.png", "001.png", "002.png", "003.png", "as_emu.png"]
    with Image.open(path) as page:
        pixels = np.asarray(page)
    assert pixels.shape == (58 + 3 * 224, 18 + 5 * 178, 3)
    with Image.open(train / "emu" / "000.png") as image:
        middle = np.asarray(image).reshape(-1, 3).mean(axis=0)
    assert abs(pixels[58 + 2 * 224 + 80, 18 + 20 : 18 + 140].mean(axis=0) - middle).max() < 12


def test_of_many_classes_fewer_images_and_of_very_many_some_classes(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(sheet, "contact_sheet", lambda *words: drawn.append(words))
    names = [f"{i:02}" for i in range(30)]
    images = dataset(scan(write_folder(tmp_path / "images", names, count=2, size=(8, 8))), names)
    readable = dict.fromkeys(images.positions.tolist())
    check.draw(tmp_path / "a.png", images, readable)
    monkeypatch.setattr(check, "ALL", 20)
    check.draw(tmp_path / "a.png", images, readable)
    (_, _, tiles, columns), (_, title, others, _) = drawn
    assert columns == 10
    assert [tile and tile.name for tile in tiles[:12]] == [
        "00",
        "00",
        None,
        None,
        None,
        "01",
        "01",
        *[None] * 3,
        "02",
        "02",
    ]
    assert title.endswith("60 training images of 30 classes, 20 of them here")
    assert len(others) == len({tile.name for tile in others}) == 20
    assert (others[0].name, others[-1].name) == ("00", "29")


def test_the_picture_replaces_no_image(tmp_path):
    images = dataset(scan(write_folder(tmp_path)))
    with pytest.raises(UsageError, match="--check_data would replace the image .*cat.000.png; give another --name"):
        check_data(images, images, lambda _: None, tmp_path / "cat" / "000.png")

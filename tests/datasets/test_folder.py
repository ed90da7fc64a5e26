import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets import heif
from datasets.folder import ImageFolder, remarks, same_classes, scan
from tests.pictures import write_folder, write_odd_folder
from utils.errors import DataError


def test_classes_paths_and_labels_are_sorted(tmp_path):
    found = scan(write_folder(tmp_path, ("b", "a"), count=2))
    assert found.class_names == ["a", "b"]
    assert found.paths == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.labels.dtype == np.int64


def test_hidden_files_and_folders_are_passed_over_and_nested_ones_found(tmp_path):
    found = scan(write_odd_folder(tmp_path))
    assert found.class_names == ["plain", "Ünïcode Öwl"]
    assert len(found) == 8
    assert "Ünïcode Öwl/nested/cmyk.jpg" in found.paths
    assert not any("hidden" in path or "junk" in path or "notes" in path for path in found.paths)


def test_links_are_followed_and_loops_end(tmp_path):
    root = write_folder(tmp_path / "root", ("a",), count=2)
    elsewhere = write_folder(tmp_path / "elsewhere", ("x",), count=3)
    (root / "b").symlink_to(elsewhere / "x")
    (root / "a" / "again").symlink_to(root / "a")
    found = scan(root)
    assert np.bincount(found.labels).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text(""), "not a folder"),
        (lambda root: root.mkdir(), "no class folders"),
        (lambda root: (root / "a").mkdir(parents=True), "no images"),
        (lambda root: (write_folder(root, ("a", "b")) / "empty").mkdir(), "no image of empty"),
    ],
)
def test_what_is_no_image_folder_is_named(tmp_path, prepare, message):
    prepare(tmp_path / "root")
    with pytest.raises(DataError, match=message) as caught:
        scan(tmp_path / "root", "--train_dir")
    assert f"--train_dir {tmp_path / 'root'}" in str(caught.value)


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    root, real = write_folder(tmp_path, ("a", "b")), os.scandir

    def scandir(path):
        if str(path).endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cannot read the folder .*/b: Permission denied"):
        scan(root)


def test_other_classes_are_named_both_ways(tmp_path):
    found = scan(write_folder(tmp_path, ("a", "b")))
    same_classes(found, ["b", "a"], "--eval_dir", "x")
    same_classes(found, ["a"], "--eval_dir", "x", or_more=True)
    with pytest.raises(DataError, match="without c$"):
        same_classes(found, ["a", "c"], "--eval_dir", "x", or_more=True)
    with pytest.raises(DataError, match="without c and with the unknown b"):
        same_classes(found, ["a", "c"], "--eval_dir", "x")


def test_many_classes_are_compared_in_one_pass():
    class Names(list):
        passes = 0

        def __iter__(self):
            Names.passes += 1
            return super().__iter__()

    names_of_both = [f"class {label}" for label in range(1000)]
    images = ImageFolder(Path("x"), Names(names_of_both), [], np.empty(0, "int64"))
    same_classes(images, Names(names_of_both), "--eval_dir", "--train_dir")
    assert Names.passes < 10


@pytest.fixture
def neither(monkeypatch):
    """Read neither HEIC nor AVIF, whatever is installed."""
    monkeypatch.setattr(heif, "decoder", lambda _: None)


def messy(root):
    """Write images with everything beside them that a scan passes over."""
    write_folder(root, ("a", "b"), count=2)
    (root / "a" / "000.png").rename(root / "a" / "photo.JFIF")
    for name in ("a/1.avif", "a/2.AVIF", "b/3.heic", "b/notes.txt", "b/Thumbs.db", "b/.DS_Store", "b/._x.jpg", "c.jpg"):
        (root / name).write_bytes(b"x")
    for name in ("@eaDir", "a/@eaDir", "b/.thumbs", ".cache"):
        (root / name).mkdir()
        (root / name / "thumbnail.jpg").write_bytes(b"x")
    (root / "b" / "gone").symlink_to("/nowhere")
    (root / "b" / "gone.png").symlink_to("/nowhere.png")
    return root


def test_files_that_are_left_out_are_counted(tmp_path, neither):
    images = scan(messy(tmp_path))
    assert images.class_names == ["a", "b"]
    assert images.paths == ["a/001.png", "a/photo.JFIF", "b/000.png", "b/001.png", "b/gone.png"]
    assert images.left_out == {
        ".avif (pip install --upgrade pillow to read AVIF)": 2,
        ".heic (pip install pillow-heif to read HEIC)": 1,
        ".txt": 1,
        "hidden images": 1,
        "hidden folders": 2,
        "folders @eaDir": 2,
        "broken links": 1,
        "images outside of the class folders": 1,
    }
    (line,) = remarks(images)
    assert line.startswith(f"{tmp_path}: left out: 2 ")
    assert scan(write_folder(tmp_path / "clean")).left_out == {}
    assert remarks(scan(tmp_path / "clean")) == []


def test_an_error_counts_what_was_left_out(tmp_path, neither):
    write_folder(tmp_path, ("a", "b"), count=2)
    for path in (tmp_path / "b").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        DataError, match=r"no image of b; known are .*; left out: 2 \.heic \(pip install pillow-heif to read HEIC\)$"
    ):
        scan(tmp_path)


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "Val"), ("train", "val", "test")])
def test_a_folder_above_the_classes_is_remarked(tmp_path, names):
    for name in names:
        write_folder(tmp_path / name, ("a", "b"), count=1)
    assert "is it the folder above the classes?" in remarks(scan(tmp_path))[0]
    assert remarks(scan(tmp_path / names[0])) == []


@pytest.mark.parametrize("hidden", [".data/train", ".cache/kagglehub/train"])
def test_data_in_a_hidden_folder(tmp_path, hidden):
    images = scan(write_folder(tmp_path / hidden))
    assert (len(images), remarks(images)) == (12, [])


def test_a_class_without_an_image_may_be_accepted(tmp_path):
    root = write_folder(tmp_path, ("a", "b"), count=2)
    (root / "c").mkdir()
    images = scan(root, empty_classes=True)
    assert images.class_names == ["a", "b", "c"]
    assert images.labels.tolist() == [0, 0, 1, 1]
    for name in ("a", "b"):
        shutil.rmtree(root / name)
        (root / name).mkdir()
    with pytest.raises(DataError, match="no images in 3 class folders"):
        scan(root, empty_classes=True)


def test_classes_may_be_missing_but_not_replaced(tmp_path):
    found = scan(write_folder(tmp_path, ("a", "b")))
    for or_more in (False, True):
        same_classes(found, ["a", "b", "c"], "--eval_dir", "x", or_more=or_more)
        with pytest.raises(DataError, match="without c"):
            same_classes(found, ["a", "c"], "--eval_dir", "x", or_more=or_more)
    with pytest.raises(DataError, match="with the unknown b"):
        same_classes(found, ["a"], "--eval_dir", "x")


@pytest.mark.parametrize(("here", "there"), [
    ("caf\u00e9", "cafe\u0301"), ("\u00c5ngstr\u00f6m", "A\u030angstro\u0308m"), ("a b", "a\u00a0b"),
    ("a", "a "), ("a", "a\u200b"), ("\uac00", "\u1100\u1161"),
])  # fmt: skip
def test_names_that_look_the_same_are_shown_apart(here, there):
    folder = ImageFolder(Path("eval"), [there, "dog"], [], np.zeros(0, dtype="int64"))
    with pytest.raises(DataError) as raised:
        same_classes(folder, [here, "dog"], "--eval_dir", "x")
    assert f"without {ascii(here)} and with the unknown {ascii(there)}" in str(raised.value)
    with pytest.raises(DataError, match="without cat and"):
        same_classes(folder, ["cat", "dog"], "--eval_dir", "x")

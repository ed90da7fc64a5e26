import errno
import os
from pathlib import Path

import numpy as np
import pytest

from datasets.folder import ImageFolder, same_classes, scan
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

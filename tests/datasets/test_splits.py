import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.check import check_data
from datasets.splits import decode_once, scan_folders, unusual, without_unreadable
from tests.pictures import write_folder
from utils.errors import DataError, UsageError


@pytest.fixture
def options(tmp_path):
    """The options of a run on two folders of three classes."""
    return SimpleNamespace(
        train_dir=str(write_folder(tmp_path / "train")),
        eval_dir=str(write_folder(tmp_path / "test", count=2, seed=1)),
        **dict.fromkeys(("train_list", "eval_list", "data_root", "path_column", "label_column")),
        **dict.fromkeys(("group_column", "group_pattern", "weight_column")),
        val_split=None,
        fold=None,
        seed=0,
        sample_rate=None,
        sample_classes=None,
        sample_total=None,
        sampling="stratified",
        sample_list=None,
        image_size=32,
        resize_size=37,
        keep_aspect=False,
        orientation="exif",
        cache="disk",
        cache_dir=tmp_path / "cache",
    )


def test_ordinary_folders_give_no_remark(options):
    assert unusual(*scan_folders(options)) == []
    options.val_split = 0.3
    assert unusual(*scan_folders(options)) == []


def test_a_class_with_two_images_is_named(options, tmp_path):
    for path in sorted((tmp_path / "train" / "dog").iterdir())[2:]:
        path.unlink()
    (line,) = unusual(*scan_folders(options))
    assert line.startswith(f"{tmp_path}/train: 2 training images or fewer of dog: ")


@pytest.mark.parametrize("form", ["absent", "empty", "other files"])
def test_a_class_without_an_evaluation_image(options, tmp_path, form):
    shutil.rmtree(tmp_path / "test" / "dog")
    if form != "absent":
        (tmp_path / "test" / "dog").mkdir()
    if form == "other files":
        (tmp_path / "test" / "dog" / "1.heic").write_bytes(b"x")
    train, evaluation = scan_folders(options)
    assert train.class_names == evaluation.class_names == ["cat", "dog", "emu"]
    np.testing.assert_array_equal(evaluation.labels, [0, 0, 2, 2])
    assert unusual(train, evaluation)[-1] == f"{tmp_path}/test: no image of dog: scored without them"
    decode_once(evaluation, "")


def test_evaluation_images_of_other_classes_only(options, tmp_path):
    options.sample_classes, options.seed = "2", 0
    kept = scan_folders(options)[0].class_names
    for name in kept:
        shutil.rmtree(tmp_path / "test" / name)
        (tmp_path / "test" / name).mkdir()
    with pytest.raises(DataError, match=f"--eval_dir .*/test: no image of {', '.join(kept)}"):
        scan_folders(options)


def test_a_single_class_is_refused(options, tmp_path):
    shutil.rmtree(tmp_path / "train" / "dog")
    shutil.rmtree(tmp_path / "train" / "emu")
    with pytest.raises(DataError, match="--train_dir .*/train: a single class, cat; accepted are two or more$"):
        scan_folders(options)
    options.train_dir = str(tmp_path / "above")
    write_folder(tmp_path / "above" / "train")
    with pytest.raises(DataError, match="a single class, train; .*; are the class folders in .*/above/train?"):
        scan_folders(options)


def test_a_sample_of_one_class_is_refused(options):
    options.sample_classes = "1"
    with pytest.raises(UsageError, match="--sample_classes 1: a single class; accepted are two or more"):
        scan_folders(options)


@pytest.mark.parametrize("cache", ["disk", "off"])
@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("bad", ["link", "vanished", "thin"])
def test_images_that_a_run_cannot_use_are_skipped_and_listed(options, tmp_path, cache, keep_aspect, bad):
    options.cache, options.keep_aspect = cache, keep_aspect
    path = tmp_path / "train" / "cat" / "x.png"
    path.symlink_to("/nowhere/x.png")
    if bad == "thin":
        path.unlink()
        write_folder(tmp_path / "one", ("cat",), count=1, size=(4000, 2))
        (tmp_path / "one" / "cat" / "000.png").rename(path)
    elif bad == "vanished":
        path.unlink()
        shutil.copy(tmp_path / "train" / "cat" / "000.png", path)
    train, evaluation = scan_folders(options)
    if bad == "vanished":
        path.unlink()
    usable = bad == "thin" and not keep_aspect
    lines = []
    check_data(train, evaluation, lines.append)
    assert any("cannot read" in line and "x.png" in line for line in lines) != usable
    if not usable:
        with pytest.raises(DataError, match="x.png"):
            decode_once(train, "") if cache == "disk" else train.store.pixels(train.positions)
    readable, skipped = without_unreadable(train, "")
    assert (len(readable), len(skipped)) == ((13, 0) if usable else (12, 1))
    decode_once(readable, "")
    assert len(readable.store.pixels(readable.positions)) == len(readable)

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from datasets.cache import CachedImages, StreamedImages
from datasets.folder import scan
from datasets.preprocess import Preprocess, decode
from tests.pictures import write_folder, write_odd_folder
from utils.errors import DataError

SQUARE, RAGGED = Preprocess(32, 37), Preprocess(32, 37, keep_aspect=True)


def fresh(images, preprocess):
    return [decode(os.path.join(images.root, path), preprocess) for path in images.paths]


@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
@pytest.mark.parametrize("kind", [CachedImages, StreamedImages])
def test_pixels_are_those_of_decoding_afresh(tmp_path, preprocess, kind):
    images = scan(write_odd_folder(tmp_path / "images"))
    store = kind(images, preprocess, tmp_path / "cache") if kind is CachedImages else kind(images, preprocess)
    assert store.prepare(range(len(images)), "") == {}
    for ours, theirs in zip(store.pixels([3, 0, 5]), [fresh(images, preprocess)[i] for i in (3, 0, 5)]):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
def test_a_folder_without_a_single_good_image_names_them(tmp_path, preprocess):
    images = scan(write_folder(tmp_path / "images", ("cat",), count=2))
    for path in images.paths:
        (images.root / path).write_bytes(b"no image")
    failures = CachedImages(images, preprocess, tmp_path / "cache").prepare([0, 1], "")
    assert [str(images.paths[i]) in str(failure) for i, failure in failures.items()] == [True, True]


def test_a_second_process_finds_everything_decoded(tmp_path, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    CachedImages(images, SQUARE, tmp_path / "cache").prepare(range(12), "")
    monkeypatch.setattr("datasets.cache.decode", lambda *_: pytest.fail("decoded twice"))
    again = CachedImages(images, SQUARE, tmp_path / "cache")
    assert again.prepare(range(12), "") == {}
    np.testing.assert_array_equal(again.pixels([7])[0], fresh(images, SQUARE)[7])


def test_stores_opened_before_find_what_another_one_decoded(tmp_path, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    first, second = (CachedImages(images, RAGGED, tmp_path / "cache") for _ in range(2))
    first.prepare(range(12), "")
    monkeypatch.setattr("datasets.cache.decode", lambda *_: pytest.fail("decoded twice"))
    assert second.prepare(range(12), "") == {}
    for ours, theirs in zip(second.pixels(range(12)), fresh(images, RAGGED)):
        np.testing.assert_array_equal(ours, theirs)


def test_filling_a_cache_together_does_no_harm(tmp_path):
    images = scan(write_folder(tmp_path / "images"))
    stores = [CachedImages(images, RAGGED, tmp_path / "cache") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda store: store.prepare(range(12), ""), stores)) == [{}] * 4
    for store in (*stores, CachedImages(images, RAGGED, tmp_path / "cache")):
        for ours, theirs in zip(store.pixels(range(12)), fresh(images, RAGGED)):
            np.testing.assert_array_equal(ours, theirs)


def test_only_what_is_asked_for_is_decoded(tmp_path, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    seen = []
    monkeypatch.setattr("datasets.cache.decode", lambda path, p: seen.append(path) or decode(path, p))
    CachedImages(images, SQUARE, tmp_path / "cache").prepare([2, 9], "")
    assert sorted(seen) == [os.path.join(images.root, images.paths[i]) for i in (2, 9)]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "no checksums"])
@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
def test_a_damaged_file_mends_itself(tmp_path, damage, preprocess):
    images = scan(write_folder(tmp_path / "images"))
    CachedImages(images, preprocess, tmp_path / "cache").prepare(range(12), "")
    (data,) = (tmp_path / "cache").glob("*.images")
    content = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[5000] ^= 255
        data.write_bytes(content)
    elif damage == "empty":
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(b"")
    else:
        next((tmp_path / "cache").glob("*.crc32")).unlink()
    again = CachedImages(images, preprocess, tmp_path / "cache")
    assert again.prepare(range(12), "") == {}
    for ours, theirs in zip(again.pixels(range(12)), fresh(images, preprocess)):
        np.testing.assert_array_equal(ours, theirs)


def fingerprint(images, preprocess):
    return StreamedImages(images, preprocess).fingerprint(range(len(images)))


def test_the_fingerprint_follows_the_files_and_the_resize(tmp_path):
    images = scan(write_folder(tmp_path))
    first = fingerprint(images, SQUARE)
    assert fingerprint(images, SQUARE) == first
    assert fingerprint(images, RAGGED) != first
    assert fingerprint(images, Preprocess(24, 37)) == first  # the crop comes later
    os.utime(tmp_path / images.paths[0], (1, 1))
    assert fingerprint(images, SQUARE) == first
    (tmp_path / images.paths[0]).write_bytes((tmp_path / images.paths[1]).read_bytes())
    assert fingerprint(images, SQUARE) != first


def test_unreadable_images_are_told_by_position_and_stop_nobody_else(tmp_path):
    root = write_folder(tmp_path / "images")
    (root / "dog" / "001.png").write_bytes(b"broken")
    images = scan(root)
    store = CachedImages(images, RAGGED, tmp_path / "cache")
    failures = store.prepare(range(12), "")
    assert list(failures) == [5]
    assert "dog/001.png" in str(failures[5])
    np.testing.assert_array_equal(store.pixels([6])[0], fresh(images.select([6]), RAGGED)[0])


def test_an_image_that_changed_its_size_is_refused(tmp_path):
    images = scan(write_folder(tmp_path / "images"))
    store = CachedImages(images, RAGGED, tmp_path / "cache")
    write_folder(tmp_path / "images", size=(80, 32))
    assert "has changed" in str(store.prepare([0], "")[0])


def test_a_removed_image_is_named(tmp_path):
    images = scan(write_folder(tmp_path / "images"))
    (tmp_path / "images" / "cat" / "000.png").unlink()
    assert "cat/000.png: No such file" in str(CachedImages(images, SQUARE, tmp_path / "cache").prepare([0, 1], "")[0])
    with pytest.raises(DataError, match="cat/000.png: No such file"):
        StreamedImages(images, SQUARE).pixels([0])

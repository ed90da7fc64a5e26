import hashlib
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import cache
from datasets.cache import CachedImages, StreamedImages
from datasets.folder import ImageFolder, scan
from datasets.preprocess import Preprocess, decode
from tests.pictures import picture, sideways, write_folder, write_odd_folder
from utils.errors import DataError
from utils.files import digest

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
    assert fingerprint(images, Preprocess(32, 37, orientation="exif")) != first
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


def test_no_more_images_wait_for_a_thread_than_a_block(monkeypatch):
    monkeypatch.setattr(cache, "SUBMITTED", 4)
    waiting = []

    class Pool:
        def map(self, work, items):
            waiting.append(len(items))
            return map(work, items)

    assert list(cache.mapped_in_threads(Pool(), lambda item: -item, np.arange(10))) == [-i for i in range(10)]
    assert list(cache.mapped_in_threads(Pool(), lambda item: item, range(0))) == []
    assert waiting == [4, 4, 2]


def look_alike(root, colours):
    """Write BMPs of one size and one time."""
    for name, colour in colours.items():
        for number in range(2):
            path = root / name / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (colour, number, 9)).save(path)
            os.utime(path, (0, 0))
    return root


@pytest.fixture
def settled(monkeypatch):
    """Keep digests of files however young they are."""
    monkeypatch.setattr("datasets.contents.SETTLED", -(10**12))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
def test_folders_that_look_alike_share_nothing(tmp_path, preprocess):
    for name, colours in (("plain", {"a": 10, "b": 200}), ("inverted", {"a": 200, "b": 10})):
        images = scan(look_alike(tmp_path / name, colours))
        store = CachedImages(images, preprocess, tmp_path / "cache")
        assert store.prepare(range(4), "") == {}
        for ours, theirs in zip(store.pixels(range(4)), fresh(images, preprocess)):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("settled")
def test_one_folder_in_the_place_of_another(tmp_path):
    for shift in (10, 20):
        root = look_alike(tmp_path / "images", {"a": shift, "b": 100 + shift})
        images = scan(root)
        store = CachedImages(images, SQUARE, tmp_path / "cache")
        store.prepare(range(4), "")
        np.testing.assert_array_equal(store.pixels([3])[0], fresh(images, SQUARE)[3])
        root.rename(tmp_path / f"gone{shift}")


@pytest.mark.usefixtures("settled")
def test_a_changed_file_with_its_old_size_and_time_is_decoded_again(tmp_path):
    root = look_alike(tmp_path / "images", {"a": 10, "b": 200})
    CachedImages(scan(root), SQUARE, tmp_path / "cache").prepare(range(4), "")
    before = os.stat(root / "a" / "0.bmp")
    content = bytearray((root / "a" / "0.bmp").read_bytes())
    content[-100:] = bytes(100)
    with open(root / "a" / "0.bmp", "r+b") as file:
        file.write(content)
    os.utime(root / "a" / "0.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    store = CachedImages(scan(root), SQUARE, tmp_path / "cache")
    store.prepare(range(4), "")
    np.testing.assert_array_equal(store.pixels([0])[0], decode(root / "a" / "0.bmp", SQUARE))


def test_a_folder_that_was_moved_or_copied_finds_its_cache(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "images")
    CachedImages(scan(root), RAGGED, tmp_path / "cache").prepare(range(12), "")
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    root.rename(tmp_path / "moved")
    monkeypatch.setattr("datasets.cache.decode", lambda *_: pytest.fail("decoded twice"))
    for name in ("moved", "copy"):
        assert CachedImages(scan(tmp_path / name), RAGGED, tmp_path / "cache").prepare(range(12), "") == {}


@pytest.mark.usefixtures("settled")
def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    seen = []
    monkeypatch.setattr("datasets.contents.digest", lambda path: seen.append(os.path.basename(path)) or digest(path))
    first = CachedImages(images, SQUARE, tmp_path / "cache").fingerprint([3])
    assert len(seen) == 12
    assert CachedImages(images, RAGGED, tmp_path / "cache").contents([0])
    assert len(seen) == 12
    os.utime(images.root / images.paths[3], (5, 5))
    assert CachedImages(images, SQUARE, tmp_path / "cache").fingerprint([3]) == first
    assert seen[12:] == ["003.png"]


def test_the_digest_of_a_file_that_just_changed_is_not_kept(tmp_path, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    CachedImages(images, SQUARE, tmp_path / "cache")
    seen = []
    monkeypatch.setattr("datasets.contents.digest", lambda path: seen.append(path) or digest(path))
    CachedImages(images, SQUARE, tmp_path / "cache")
    assert len(seen) == 12


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"1 2 3": 4}', b"\xff\xfe", b"[" * 99999, b"null"])
def test_a_damaged_table_of_digests_is_made_anew(tmp_path, content):
    images = scan(write_folder(tmp_path / "images"))
    first = CachedImages(images, SQUARE, tmp_path / "cache").fingerprint([0, 1])
    (table,) = (tmp_path / "cache").glob("*.contents.json")
    whole = table.read_bytes()
    table.write_bytes(content)
    assert CachedImages(images, SQUARE, tmp_path / "cache").fingerprint([0, 1]) == first
    assert table.read_bytes() == whole


def test_a_file_that_changes_between_scan_and_decoding_is_refused(tmp_path):
    root = look_alike(tmp_path / "images", {"a": 10, "b": 200})
    store = CachedImages(scan(root), SQUARE, tmp_path / "cache")
    look_alike(tmp_path / "images", {"a": 11, "b": 200})
    assert "a/0.bmp has changed since the folder was scanned" in str(store.prepare(range(4), "")[0])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_table_of_sizes_is_mended_and_never_makes_a_file_long(data, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    images = scan(write_folder(work / "images", ("a", "b"), count=2))
    CachedImages(images, RAGGED, work / "cache").prepare(range(4), "")
    (table,) = (work / "cache").glob("*.sizes.npy")
    whole = table.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 2))):
        # anywhere, or in the low byte of a number: another size that an image can have
        place = data.draw(st.integers(0, len(whole) - 1) | st.sampled_from(range(128, len(whole), 8)))
        damaged[place] ^= data.draw(st.integers(1, 255))
    table.write_bytes(damaged[: data.draw(st.sampled_from([len(whole)] * 6 + [len(whole) - 1, len(whole) // 2]))])
    store = CachedImages(images, RAGGED, work / "cache")
    assert store.prepare(range(4), "") == {}
    for ours, theirs in zip(store.pixels(range(4)), fresh(images, RAGGED)):
        np.testing.assert_array_equal(ours, theirs)
    assert all(file.stat().st_size < 100_000 for file in (work / "cache").iterdir())
    shutil.rmtree(work)


def test_a_table_of_sizes_with_a_damaged_header_is_made_anew(tmp_path):
    """NumPy raises more than it documents: here an error of Python's tokenizer."""
    images = scan(write_folder(tmp_path / "images"))
    CachedImages(images, RAGGED, tmp_path / "cache")
    (table,) = (tmp_path / "cache").glob("*.sizes.npy")
    whole = table.read_bytes()
    table.write_bytes(whole.replace(b"}", b"(", 1))
    assert CachedImages(images, RAGGED, tmp_path / "cache").prepare(range(12), "") == {}
    assert table.read_bytes() == whole


def test_sizes_beyond_any_image_are_not_believed(tmp_path):
    images = scan(write_folder(tmp_path / "images"))
    CachedImages(images, RAGGED, tmp_path / "cache")
    (table,) = (tmp_path / "cache").glob("*.sizes.npy")
    sizes = np.full((12, 2), 1 << 40)
    np.save(table, np.vstack([sizes, [zlib.crc32(sizes), 0]]))
    assert CachedImages(images, RAGGED, tmp_path / "cache").prepare(range(12), "") == {}


@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
def test_an_image_that_could_not_be_read_once_is_tried_again(tmp_path, preprocess, monkeypatch):
    images = scan(write_folder(tmp_path / "images"))
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", lambda *_, **__: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        failures = CachedImages(images, preprocess, tmp_path / "cache").prepare([0], "")
        assert "Too many open files" in str(failures[0])
    store = CachedImages(images, preprocess, tmp_path / "cache")
    assert store.prepare(range(12), "") == {}
    np.testing.assert_array_equal(store.pixels([0])[0], fresh(images, preprocess)[0])


@pytest.mark.parametrize("preprocess", [SQUARE, RAGGED])
@pytest.mark.parametrize("target", ["/nowhere/x.png", "/dev/zero", "/"])
def test_a_link_to_no_image_is_one_failure_and_not_the_end(tmp_path, preprocess, target):
    root = write_folder(tmp_path / "images")
    (root / "cat" / "x.png").symlink_to(target)
    images = ImageFolder(root, ["cat"], ["cat/000.png", "cat/x.png"], np.zeros(2, "int64"))
    failures = CachedImages(images, preprocess, tmp_path / "cache").prepare([0, 1], "")
    assert list(failures) == [1]
    assert "cat/x.png" in str(failures[1])
    assert list(StreamedImages(images, preprocess).prepare([0, 1], "")) == [1]


def test_the_fingerprint_follows_the_classes(tmp_path):
    root = write_folder(tmp_path, ("a", "b"), count=2)
    first = fingerprint(scan(root), SQUARE)
    (root / "b" / "000.png").rename(root / "a" / "002.png")  # the same contents in the same order
    assert fingerprint(scan(root), SQUARE) != first


def test_the_name_of_an_earlier_cache_stays(tmp_path):
    images = scan(write_folder(tmp_path, ("a",), count=1))
    about = f"3 {PIL.__version__} 37 False\na/000.png\t{digest(tmp_path / 'a' / '000.png')}"
    assert fingerprint(images, SQUARE) == hashlib.sha256(about.encode()).hexdigest()


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_one_folder_of_caches_serves_both_orientations(tmp_path, keep_aspect):
    root = write_folder(tmp_path / "images")
    sideways(root / "cat" / "000.jpg", picture(0, 1, (90, 60)))
    images = scan(root)
    for orientation in ("exif", "ignore", "exif"):
        preprocess = Preprocess(32, 37, keep_aspect, orientation=orientation)
        store = CachedImages(images, preprocess, tmp_path / "cache")
        assert store.prepare(range(len(images)), "") == {}
        for ours, theirs in zip(store.pixels(range(len(images))), fresh(images, preprocess)):
            np.testing.assert_array_equal(ours, theirs)

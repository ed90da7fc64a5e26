import itertools
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from datasets import glyphs
from datasets.folder import scan
from utils.errors import DataError

WHOLE = glyphs.SPLITS
FEW = {"latin/train": 2, "latin/test": 1, "greek/train": 2, "greek/val": 1, "greek/test": 2}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(glyphs, "SPLITS", FEW)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("task") / "glyphs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "SPLITS", FEW)
        glyphs.write_task(root)
    return root


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_whole_task_has_its_counts(monkeypatch):
    monkeypatch.setattr(glyphs, "SPLITS", WHOLE)
    paths = [path for path, _, _ in glyphs._plan()]
    counts = {split: sum(path.startswith(split) for path in set(paths)) for split in WHOLE}
    assert counts == {
        "latin/train": 52 * 60,
        "latin/test": 52 * 10,
        "greek/train": 24 * 20,
        "greek/val": 24 * 15,
        "greek/test": 24 * 30,
    }
    assert len(paths) == sum(counts.values())
    assert {"latin/train/upper_A/059.png", "latin/test/lower_z/009.png", "greek/val/24_omega/014.png"} <= set(paths)


def test_folders_are_scanned_as_classes(task):
    for split, count in FEW.items():
        images = scan(task / split)
        classes = 52 if split.startswith("latin") else 24
        assert np.bincount(images.labels).tolist() == [count] * classes
        assert images.class_names == sorted(glyphs.ALPHABETS[split.split("/")[0]])
        assert len({name.lower() for name in images.class_names}) == classes


def test_every_class_is_named_after_its_letter():
    for name, letter in glyphs.ALPHABETS["latin"].items():
        case, latin = name.split("_")
        assert latin == letter == getattr(letter, case)()
    for i, (name, letter) in enumerate(glyphs.ALPHABETS["greek"].items(), 1):
        greek = unicodedata.name(letter).replace("LAMDA", "LAMBDA")
        assert (f"{i:02}", f"GREEK SMALL LETTER {name[3:].upper()}") == (name[:2], greek)
    assert "ς" not in glyphs.ALPHABETS["greek"].values()


@pytest.mark.parametrize("face", glyphs.FACES)
def test_every_face_has_every_letter(face):
    font = glyphs._font(face)
    absent = bytes(font.getmask("\uffff"))
    for letter in itertools.chain(*(alphabet.values() for alphabet in glyphs.ALPHABETS.values())):
        assert bytes(font.getmask(letter)) != absent, letter


def test_images_are_rgb_of_one_size(task):
    for path in task.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (37, 37))


def test_two_writes_give_the_same_bytes(task, tmp_path):
    glyphs.write_task(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(task)


def test_an_image_does_not_depend_on_the_counts(task, tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "SPLITS", dict.fromkeys(FEW, 1))
    glyphs.write_task(tmp_path / "fewer")
    fewer, whole = contents(tmp_path / "fewer"), contents(task)
    assert set(fewer) < set(whole)
    assert fewer == {path: whole[path] for path in fewer}


def test_no_image_is_there_twice(task):
    images = list(contents(task).values())
    assert len(set(images)) == len(images)


def test_letters_stay_where_every_crop_sees_them():
    shares = []
    for _, letter, seed in glyphs._plan():
        ink = glyphs._placed(glyphs._glyph(glyphs._font(glyphs.FACES[0]), letter), np.random.default_rng(seed))
        assert ink.shape == (37, 37)
        shares.append(ink[5:32, 5:32].sum() / ink.sum())
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.99


def test_ink_and_paper_differ():
    rng = np.random.default_rng(0)
    differences = [np.abs(glyphs._colour(rng, True) - glyphs._colour(rng, False)).max() for _ in range(1000)]
    assert min(differences) > 0.25


def test_a_gradient_goes_from_one_colour_to_the_other():
    start, end = np.array([0.0, 0.2, 0.4]), np.array([1.0, 0.6, 0.0])
    square = glyphs._gradient(start, end, np.pi / 4)
    np.testing.assert_allclose(square[[0, 18, -1], [0, 18, -1]], [start, (start + end) / 2, end], atol=1e-12)
    np.testing.assert_allclose(glyphs._gradient(start, end, 0.0)[:, 18], np.tile((start + end) / 2, (37, 1)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_nothing_and_the_next_one_is_whole(task, tmp_path, monkeypatch, error):
    draw, calls = glyphs.draw, itertools.count()

    def fail(letter, rng):
        if next(calls) == 100:
            raise error
        return draw(letter, rng)

    monkeypatch.setattr(glyphs, "draw", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        glyphs.write_task(tmp_path / "glyphs")
    assert list(tmp_path.iterdir()) == []
    glyphs.write_task(tmp_path / "glyphs")
    assert contents(tmp_path / "glyphs") == contents(task)


def test_remains_of_a_killed_process_are_not_taken_over(task, tmp_path):
    """Not even by one of the same number in another container, whose folder may be in use."""
    (tmp_path / f".glyphs.{os.getpid()}.tmp/greek/train/25_digamma").mkdir(parents=True)
    glyphs.write_task(tmp_path / "glyphs")
    assert sorted((tmp_path / "glyphs").rglob("greek/train/*"))[-1].name == "24_omega"
    assert [*tmp_path.rglob("25_digamma")] != []


def test_what_is_there_is_not_drawn_again(task, monkeypatch):
    monkeypatch.setattr(glyphs, "draw", lambda *_: pytest.fail("drawn twice"))
    glyphs.write_task(task)


def test_an_empty_folder_is_filled(tmp_path):
    glyphs.write_task(tmp_path)
    assert (tmp_path / "greek/test/24_omega/001.png").is_file()


def test_another_process_may_be_faster(task, tmp_path, monkeypatch):
    draw, calls = glyphs.draw, itertools.count()

    def overtaken(letter, rng):
        if next(calls) == 0:
            shutil.copytree(task, tmp_path / "glyphs")
        return draw(letter, rng)

    monkeypatch.setattr(glyphs, "draw", overtaken)
    glyphs.write_task(tmp_path / "glyphs")
    assert [path.name for path in tmp_path.iterdir()] == ["glyphs"]


def test_a_folder_of_something_else_is_refused_and_kept(task, tmp_path):
    root = tmp_path / "glyphs"
    shutil.copytree(task, root)
    (root / "greek/val/07_eta/000.png").unlink()
    with pytest.raises(DataError, match=r"glyphs: .*greek/val/07_eta/000.png is missing"):
        glyphs.write_task(root)
    assert len(contents(root)) == len(contents(task)) - 1
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: .*is missing"):
        glyphs.write_task(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_font_that_is_not_there_is_named():
    with pytest.raises(DataError, match="DejaVuNothing.ttf"):
        glyphs._font("DejaVuNothing.ttf")

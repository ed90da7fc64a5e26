"""Labels in Python: the numbers of predict.py to the bit, whatever form the images have; refusals by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from checkpoints import checkpoint
from evaluation.classifier import Classifier
from tests.pictures import picture, sideways, write_folder
from tests.toy_checkpoints import write_checkpoint
from utils.errors import DataError, UsageError, WeightsError

CLASSES = ["cat", "dog", "emu"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_checkpoint(folder / "a.pdparams", CLASSES, keep_aspect=True, orientation="exif")
    write_folder(folder / "photos", count=3)
    sideways(folder / "photos" / "turned.jpg", picture(7, 1, (50, 36)))
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def model(here):
    return Classifier.load("a.pdparams")


def forms(paths):
    """Return the images as what a person may have instead of their paths; an array has no orientation any more."""
    return {
        "paths": paths,
        "path objects": [*map(Path, paths)],
        "bytes": [Path(path).read_bytes() for path in paths],
        "bytearray": [bytearray(Path(path).read_bytes()) for path in paths],
        "pillow": [Image.open(path) for path in paths],
        "one by one": (path for path in paths),
    }


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_every_form_has_the_numbers_of_the_script(model, batch_size):
    flags = ["--batch_size_eval", str(batch_size)] if batch_size else []
    wanted = predict.main(["--ckpts", "a.pdparams", "photos", "--gpu", "-1", "--out", "t.csv", *flags])
    assert len(wanted) == 10
    assert len({*map(bytes, wanted.probabilities)}) == 10  # no mix-up is hidden
    folder = model.predict("photos", batch_size)
    assert folder.paths == wanted.paths
    assert folder.table("csv", 5) == Path("t.csv").read_text()
    for form, images in forms(wanted.paths).items():
        found = model.predict(images, batch_size)
        assert found.probabilities.tobytes() == wanted.probabilities.tobytes(), form
        assert found.classes == wanted.classes


@pytest.mark.parametrize("layout", ["list", "one array", "views"])
def test_arrays_are_images_of_three_channels(model, layout):
    paths = [f"photos/{name}/{number:03d}.png" for name in CLASSES for number in range(3)]
    wanted = model.predict(paths).probabilities
    arrays = [np.asarray(Image.open(path)) for path in paths]
    if layout == "one array":
        arrays = np.stack(arrays)
    if layout == "views":  # as of OpenCV's BGR, and neither is contiguous
        arrays = [np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1] for array in arrays]
    found = model.predict(arrays)
    assert found.probabilities.tobytes() == wanted.tobytes()
    assert found.paths == [f"images[{number}]" for number in range(9)]
    swapped = model.predict([array[..., ::-1] for array in arrays]).probabilities
    assert not np.allclose(swapped, wanted, atol=1e-3)


def test_one_image_is_a_table_of_one_row(model):
    path = "photos/dog/001.png"
    wanted = model.predict([path]).probabilities
    assert wanted.shape == (1, 3)
    for image in (path, Path(path).read_bytes(), Image.open(path), np.asarray(Image.open(path))):
        assert model.predict(image).probabilities.tobytes() == wanted.tobytes()


def test_rows_are_in_the_order_given_also_repeatedly(model):
    first, second = "photos/cat/000.png", "photos/emu/002.png"
    array = np.asarray(Image.open(second))
    found = model.predict([array, second, first, array, "photos/cat", first])
    cats = [f"photos/cat/{number:03d}.png" for number in range(3)]
    assert found.paths == ["images[0]", second, first, "images[0]", *cats, first]
    single = {path: model.predict(path).probabilities[0] for path in {first, second, *cats}}
    wanted = [single[path.replace("images[0]", second)] for path in found.paths]
    np.testing.assert_allclose(found.probabilities, wanted, atol=2e-6)


def test_a_photograph_of_pillow_is_turned_like_its_file(model):
    turned = Image.open("photos/turned.jpg")
    wanted = model.predict("photos/turned.jpg").probabilities
    assert model.predict(turned).probabilities.tobytes() == wanted.tobytes()
    unturned = model.predict(np.asarray(turned)).probabilities
    assert not np.allclose(unturned, wanted, atol=1e-4)


def test_a_file_named_like_an_image_in_memory_is_another(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(1, 0).save("images[0]", format="PNG")
    other = picture(2, 2)
    found = model.predict([other, "images[0]"])
    assert found.probabilities[0].tobytes() == model.predict([other, other]).probabilities[0].tobytes()
    assert found.probabilities[0].tobytes() != found.probabilities[1].tobytes()


def test_the_table_has_a_row_for_each_image_and_a_column_for_each_class(model):
    found = model.predict("photos")
    assert (len(found), found.probabilities.shape, found.class_names) == (10, (10, 3), CLASSES)
    assert found.probabilities.dtype == np.float64
    assert found.rejected is None
    assert found.classes == [CLASSES[i] for i in found.probabilities.argmax(axis=1)]
    row = found.rows(2, all_classes=True)[4]
    second, first = found.probabilities[4].argsort()[-2:]
    assert row == {
        "path": found.paths[4],
        "predicted": CLASSES[first],
        "probability": found.probabilities[4, first],
        "predicted_2": CLASSES[second],
        "probability_2": found.probabilities[4, second],
        **{f"p_{name}": p for name, p in zip(CLASSES, found.probabilities[4])},
    }
    assert str(found).splitlines()[0] == "path,predicted,probability"
    assert repr(found) == "<Predictions: 10 images, 3 classes>"


def test_uncertain_images_are_rejected_as_by_the_script(model, tmp_path):
    sure = model.predict("photos").probabilities.max(axis=1)
    middle = np.float32(np.sort(sure)[5])
    confidence = np.sort(np.r_[np.full(40, middle - np.float32(1e-3)), np.full(400, middle)]).astype("float32")
    calibration = {"temperature": 1.0, "confidence": confidence, "correct": confidence >= middle}
    path = str(tmp_path / "c.pdparams")
    checkpoint.save(path, {**checkpoint.read("a.pdparams"), "calibration": calibration})
    found = Classifier.load(path).predict("photos", reject=0.99)
    assert found.rejected.tolist() == (sure.astype("float32") < middle).tolist()
    assert 0 < found.rejected.sum() < 10
    assert [name is None for name in found.classes] == found.rejected.tolist()
    out = str(tmp_path / "t.json")
    wanted = predict.main(["--ckpts", path, "photos", "--gpu", "-1", "--reject", "0.99", "--out", out])
    assert found.table("json", 5) == (tmp_path / "t.json").read_text()
    assert wanted.rejected.tolist() == found.rejected.tolist()


GOOD = np.zeros((8, 9, 3), dtype="uint8")


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([], UsageError, "no image to label"),
        ([GOOD, GOOD.astype("float32")], DataError, r"^images\[1\]: an array float32 \[8, 9, 3\]; accepted are a path"),
        (GOOD.astype("int64"), DataError, r"^images\[0\]: an array int64 \[8, 9, 3\]"),
        ([GOOD[..., 0]], DataError, r"^images\[0\]: an array uint8 \[8, 9\]"),
        (GOOD.transpose(2, 0, 1), DataError, r"^images\[0\]: an array uint8 \[3, 8, 9\]"),
        ([np.zeros((8, 9, 4), dtype="uint8")], DataError, r"an array uint8 \[8, 9, 4\]"),
        ([GOOD[:0]], DataError, r"an array uint8 \[0, 9, 3\]"),
        (7, DataError, r"^images\[0\]: int; accepted are"),
        ([GOOD, None], DataError, r"^images\[1\]: NoneType; accepted are"),
        ([b"no image"], DataError, r"^cannot read the image images\[0\]: not an image of a known format"),
        (["photos", "nowhere.png"], DataError, r"^nowhere.png: no such file or folder"),
        ([np.zeros((1, 51, 3), dtype="uint8")], DataError, r"^cannot read the image images\[0\]: 51 x 1 pixels"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(model, images, error, words):
    with pytest.raises(error, match=words):
        model.predict(images)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size 0: accepted"),
        ({"reject": 1}, "reject 1: accepted is a share"),
        ({"reject": 0.9}, "the checkpoint knows nothing of held-out images"),
    ],
)
def test_arguments_out_of_range_are_refused(model, arguments, words):
    with pytest.raises(UsageError, match=words):
        model.predict(GOOD, **arguments)


def test_an_image_of_a_folder_that_cannot_be_read_is_left_out(model, tmp_path, capsys):
    write_folder(tmp_path / "holed", ("cat",), count=3)
    (tmp_path / "holed" / "cat" / "001.png").write_bytes(b"\x89PNG broken")
    found = model.predict([str(tmp_path / "holed"), GOOD])
    assert [path.rpartition("/")[2] for path in found.paths] == ["000.png", "002.png", "images[1]"]
    assert found.unreadable == 1
    assert "WARNING: cannot read the image" in capsys.readouterr().err


def test_loading_is_that_of_the_scripts(here):
    with pytest.raises(WeightsError, match=r"nowhere\.pdparams"):
        Classifier.load("nowhere.pdparams")
    assert Classifier.load("a.pdparams").class_names == CLASSES

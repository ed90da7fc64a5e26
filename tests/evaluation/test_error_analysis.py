"""The report of a prediction set that was made by hand."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from evaluation import error_analysis
from tests.pictures import write_folder

CLASSES = ["cat", "dog", "emu"]
# true class by true class: what each image was taken for
PREDICTED = {"cat": ["cat", "cat", "dog", "dog", "dog"], "dog": ["dog", "emu"] + ["dog"] * 3, "emu": ["cat"] * 5}
MATRIX = [[2, 3, 0], [0, 4, 1], [5, 0, 0]]  # rows true, columns predicted


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def logits_for(predicted, margin=2.0):
    return margin * np.eye(len(CLASSES), dtype="float32")[[CLASSES.index(name) for name in predicted]]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    found = scan(write_folder(tmp_path_factory.mktemp("images"), CLASSES, count=5))
    return Dataset.of(StreamedImages(found, Preprocess(32, 32)), CLASSES)


@pytest.fixture(scope="module")
def report(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    logits = logits_for(sum(PREDICTED.values(), []))
    logits[5] *= 3  # a dog, right and sure
    logits[12] *= 4  # an emu, wrong and sure
    error_analysis.write(folder, images, logits, top_k=2)
    return folder, logits


def test_the_confusion_matrix_is_the_known_one(report):
    folder, _ = report
    header, *rows = read(folder / "confusion.csv")
    assert header == ["true class (rows), predicted class (columns)", *CLASSES]
    assert [row[0] for row in rows] == CLASSES
    assert [[int(cell) for cell in row[1:]] for row in rows] == MATRIX


def test_the_classes_and_pairs_are_those_of_the_matrix(report):
    folder, _ = report
    assert read(folder / "per_class.csv") == [
        ["class", "images", "correct", "accuracy", "most_confused_with", "confused_images"],
        ["cat", "5", "2", "40.00", "dog", "3"],
        ["dog", "5", "4", "80.00", "emu", "1"],
        ["emu", "5", "0", "0.00", "cat", "5"],
    ]
    assert read(folder / "confused_pairs.csv") == [
        ["true", "predicted", "images", "share"],
        ["emu", "cat", "5", "100.00"],
        ["cat", "dog", "3", "60.00"],
        ["dog", "emu", "1", "20.00"],
    ]


def test_the_predictions_are_listed_by_image(report, images):
    folder, logits = report
    header, *rows = read(folder / "predictions.csv")
    assert header == ["path", "true", "predicted", "probability", "predicted_2", "probability_2"]
    assert [row[0] for row in rows] == [f"{name}/{i:03d}.png" for name in CLASSES for i in range(5)]
    assert [row[1] for row in rows] == [name for name in CLASSES for _ in range(5)]
    assert [row[2] for row in rows] == sum(PREDICTED.values(), [])
    sure = math.exp(8) / (math.exp(8) + 2)
    assert rows[12][3:] == [f"{sure:.6f}", "dog", f"{(1 - sure) / 2:.6f}"]  # of equal ones the first


def test_the_worst_image_comes_first(report, images, tmp_path, monkeypatch):
    _, logits = report
    seen = []
    monkeypatch.setattr(error_analysis.sheet, "contact_sheet", lambda path, title, tiles: seen.extend(tiles))
    error_analysis.worst_picture(tmp_path / "w.png", images, logits, limit=15)
    assert str(seen[0].path).endswith("emu/002.png")
    assert seen[0].name == "cat"
    assert seen[0].note == f"true: emu ({100 / (math.exp(8) + 2):.1f} %)"
    assert seen[0].share == pytest.approx(softmax([8.0, 0, 0])[0])
    assert [tile.colour for tile in seen] == [error_analysis.sheet.RED] * 9 + [error_analysis.sheet.GREEN] * 6
    assert str(seen[-1].path).endswith("dog/000.png")


def test_the_report_has_its_pictures(report):
    folder, _ = report
    names = {"per_class.csv", "confusion.csv", "confused_pairs.csv", "predictions.csv", "confusion.png", "worst.png"}
    assert {path.name for path in folder.iterdir()} == names
    for name in ("confusion.png", "worst.png"):
        with Image.open(folder / name) as picture:
            assert picture.size[0] > 300


def test_a_network_that_says_nan_is_reported_too(images, tmp_path):
    error_analysis.write(tmp_path, images, np.full((15, 3), np.nan, dtype="float32"))
    assert [row[2:4] for row in read(tmp_path / "predictions.csv")[1:]] == [["cat", "nan"]] * 15
    assert (tmp_path / "worst.png").exists()


def test_a_class_without_images_has_no_accuracy():
    matrix = error_analysis.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [row["accuracy"] for row in error_analysis.per_class(matrix, CLASSES)] == ["50.00", "100.00", ""]
    assert [row["most_confused_with"] for row in error_analysis.per_class(matrix, CLASSES)] == ["dog", "", ""]


def test_without_mistakes_there_are_no_pairs():
    assert error_analysis.confused_pairs(np.diag([2, 3, 4]), CLASSES) == []


def test_of_equal_pairs_the_first_comes_first():
    pairs = error_analysis.confused_pairs(np.array([[5, 2, 2], [2, 5, 0], [3, 0, 5]]), CLASSES)
    assert [(row["true"], row["predicted"]) for row in pairs] == [
        ("emu", "cat"),
        ("cat", "dog"),
        ("cat", "emu"),
        ("dog", "cat"),
    ]


@pytest.mark.parametrize(
    ("checkpoints", "names"),
    [
        (["x/a_Last.pdparams"], ["a_Last"]),
        (["x/a_Last.pdparams", "x/y/b_Last.pdparams"], ["a_Last", "b_Last"]),
        (["x/1/a.pdparams", "x/2/a.pdparams", "x/b.pdparams"], ["1/a.pdparams", "2/a.pdparams", "b.pdparams"]),
        (["a.pdparams", "../a.pdparams"], [f"{Path.cwd().name}/a.pdparams", "a.pdparams"]),
    ],
)
def test_each_checkpoint_has_a_folder_of_its_own_below_the_given_one(checkpoints, names):
    found = error_analysis.folders(Path("out"), checkpoints)
    assert list(found.items()) == [(path, Path("out") / name) for path, name in zip(checkpoints, names)]

"""Folders that lack a class, or have others, and the checkpoints that may be scored on them."""

import shutil

import pytest

from checkpoints.classifier import Classifier
from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.preprocess import Preprocess
from evaluation.scoring import labelled
from tests.pictures import write_folder
from utils.errors import DataError


@pytest.fixture
def images(tmp_path):
    """A folder of cats and emus, and one of dogs that is empty."""
    root = write_folder(tmp_path, ("cat", "dog", "emu"), count=2)
    shutil.rmtree(root / "dog")
    (root / "dog").mkdir()
    return root


def classifier(class_names, width, sampled=False):
    return Classifier(None, "resnet8", class_names, width, Preprocess(32, 37), sampled, None)


def store(root):
    return StreamedImages(scan(root, "--test_dir", empty_classes=True), Preprocess(32, 37))


@pytest.mark.parametrize("absent", [False, True])
def test_a_class_without_images_is_mentioned(images, absent, capsys):
    if absent:
        (images / "dog").rmdir()
    found = labelled(store(images), classifier(["emu", "dog", "cat"], 3), "a.pdparams")
    assert found.class_names == ["emu", "dog", "cat"]
    assert found.labels.tolist() == [2, 2, 0, 0]
    assert capsys.readouterr().out == f"a.pdparams: {images} has no image of dog: scored without them\n"


def test_a_checkpoint_without_names_counts_an_empty_class(images):
    found = labelled(store(images), classifier(None, 3), "a.pdparams")
    assert (found.class_names, found.labels.tolist()) == (["cat", "dog", "emu"], [0, 0, 2, 2])
    (images / "dog").rmdir()
    with pytest.raises(DataError, match="2 classes, a.pdparams has 3"):
        labelled(store(images), classifier(None, 3), "a.pdparams")


def test_a_sample_of_classes_one_of_which_has_no_image(images, capsys):
    found = labelled(store(images), classifier(["cat", "dog"], 2, sampled=True), "a.pdparams")
    assert found.labels.tolist() == [0, 0]
    assert "1 classes of" in capsys.readouterr().out
    with pytest.raises(DataError, match="no image of the classes of a.pdparams"):
        labelled(store(images), classifier(["dog"], 1, sampled=True), "a.pdparams")


def test_other_classes_are_refused(images):
    for names in (["cat", "dog"], ["cat", "dog", "fox"]):
        with pytest.raises(DataError, match="with the unknown emu"):
            labelled(store(images), classifier(names, len(names)), "a.pdparams")

import pytest

from checkpoints import checkpoint, pdparams
from checkpoints.classifier import Classifier
from tests.toy_checkpoints import write_checkpoint
from utils.errors import WeightsError


@pytest.mark.parametrize(
    "entries",
    [
        {"preprocess": {"image_size": 32}, "arch": "resnet8", "classes": ["a"]},
        {"preprocess": {"side": 32}},
        {"preprocess": "x"},
        {"preprocess": {"image_size": "32", "resize_size": 37, "keep_aspect": False}},
        {"preprocess": {"image_size": 40, "resize_size": 37, "keep_aspect": False}},
        {"arch": ["resnet8"]},
        {"arch": "resnet9"},
        {"classes": ["a", "b"]},
        {"classes": ["a", "b", "c", "c"]},
        {"classes": 4},
        {"options": "x"},
        {"model": {}},
        {"model": {"fc.weight": "x"}},
    ],
)
def test_a_checkpoint_that_says_something_else_is_refused(tmp_path, entries):
    path = write_checkpoint(tmp_path / "a.pdparams", "abcd")
    assert Classifier.load(path).class_names == list("abcd")
    checkpoint.save(path, {**pdparams.load(path), **entries})
    with pytest.raises(WeightsError, match="a.pdparams"):
        Classifier.load(path)

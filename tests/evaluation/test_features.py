"""Features in a file: what is in it, whose it is, and the nearest of them by cosine."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from checkpoints.classifier import Classifier
from evaluation import features as module
from evaluation.features import Features, identity
from models.parameters import batch_norms
from tests.toy_checkpoints import write_checkpoint
from utils.errors import WeightsError

TEXTS = dict.fromkeys(("paths", "classes", "network"), "U")


def some(count=9, width=5, seed=0):
    rng = np.random.default_rng(seed)
    return Features(rng.normal(size=(count, width)).astype("float32"), [f"{i}.png" for i in range(count)], ["a"], "x")


@pytest.mark.parametrize("block", [1, 30, module.BLOCK])
def test_the_nearest_have_the_highest_cosine(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    known, rows = some(), some(7, seed=1).features
    judged = cosine_similarity(rows.astype("float64"), known.features.astype("float64"))
    for neighbours, cosines in zip(known.nearest(rows, 3), judged, strict=True):
        order = np.argsort(-cosines)[:3]
        assert [path for path, _ in neighbours] == [f"{i}.png" for i in order]
        np.testing.assert_allclose([cosine for _, cosine in neighbours], cosines[order], atol=1e-6)
    assert [len(each) for each in known.nearest(rows, 100)] == [9] * 7


def test_of_equal_cosines_the_first_is_the_nearest():
    rows = np.array([[0, 0], [1, 2], [2, 4], [0, 3], [0.5, 1]], "float32")
    known = Features(rows, list("abcde"), ["x"], "y")
    assert known.nearest(rows[2:3], 5)[0] == [
        *(("b", 1.0), ("c", 1.0), ("e", 1.0)),
        *(("d", round(2 / 5**0.5, 6)), ("a", 0.0)),
    ]
    assert known.nearest(rows[:1], 2)[0] == [("a", 0.0), ("b", 0.0)]


def test_a_file_holds_what_was_saved(tmp_path):
    known = Features(some(2).features, ["ä/猫.png", "caf\udce9.png"], ["cat", "Öwl"], "abc")
    known.save(tmp_path / "new" / "f")
    found = Features.load(tmp_path / "new" / "f")
    np.testing.assert_array_equal(found.features, known.features)
    assert (found.paths, found.classes, found.network) == (known.paths, known.classes, known.network)
    with np.load(tmp_path / "new" / "f") as file:
        assert {name: file[name].dtype.kind for name in file} == {"features": "f", **TEXTS}
        assert file["features"].dtype == "float32"


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros((2, 3, 1))},
        {"features": np.zeros((3, 3))},
        {"features": np.zeros((2, 3), int)},
        {"features": np.array([[1, np.nan], [0, 1]])},
        {"features": np.zeros((0, 3)), "paths": np.array([], "U1")},
        {"paths": np.arange(2)},
        {"paths": np.array([{}, {}])},
        {"network": np.array(["x"])},
        {"classes": None},
    ],
)
def test_another_file_is_refused_in_a_line(tmp_path, change):
    arrays = {"features": np.ones((2, 3)), "paths": np.array(["a", "b"])}
    arrays |= {"classes": np.array(["c"]), "network": np.array("x")}
    np.savez(tmp_path / "good.npz", **arrays)
    Features.load(tmp_path / "good.npz")
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in {**arrays, **change}.items() if array is not None})
    with pytest.raises(WeightsError, match=r"^[^\n]*bad.npz: not a file of predict.py --features"):
        Features.load(tmp_path / "bad.npz")


def test_no_archive_no_file_and_a_torn_one_are_refused(tmp_path):
    some(300).save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    flipped = bytearray(whole)
    flipped[300] ^= 255
    contents = {"empty": b"", "text": b"hello", "torn": whole[:-50], "flipped": bytes(flipped)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "array.npy"):
        with pytest.raises(WeightsError, match=f"{name}: not a file of predict.py --features"):
            Features.load(tmp_path / name)
    with pytest.raises(WeightsError, match="none.npz: no such file"):
        Features.load(tmp_path / "none.npz")


def test_a_network_is_known_by_its_backbone_and_its_images(tmp_path):
    def load(name, **given):
        return Classifier.load(write_checkpoint(tmp_path / f"{name}.pdparams", ["cat", "dog"], **given))

    model = load("first")
    first = identity(model)
    assert identity(load("again")) == first
    for number, given in enumerate(({"seed": 1}, {"size": 24}, {"resize": 40}, {"keep_aspect": True})):
        assert identity(load(f"other{number}", **given)) != first
    features = Features(np.ones((1, model.network.head.weight.shape[0]), "float32"), ["a"], ["cat", "dog"], first)
    features.save(tmp_path / "f.npz")
    replace(features, features=features.features[:, 1:]).save(tmp_path / "narrow.npz")
    model.network.head.weight.set_value(model.network.head.weight + 1)
    assert Features.load_for(model, str(tmp_path / "f.npz"), "a.pdparams").paths == ["a"]
    with pytest.raises(WeightsError, match="--nearest_to .*narrow.npz: not of the backbone and the image size of a.pd"):
        Features.load_for(model, str(tmp_path / "narrow.npz"), "a.pdparams")
    norm = next(iter(batch_norms(model.network).values()))
    norm._mean.set_value(norm._mean + 1)
    with pytest.raises(WeightsError, match="--nearest_to .*/f.npz: not of the backbone and the image size of a"):
        Features.load_for(model, str(tmp_path / "f.npz"), "a.pdparams")

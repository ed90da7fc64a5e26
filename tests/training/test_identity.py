"""What a run that is resumed must have in common with its checkpoint, besides its options."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.identity import Identity
from utils.errors import UsageError

OPTIONS = {"max_iters": 3, "image_size": 32, "resize_size": 37, "keep_aspect": False, "pretrained": "x"}
SIZES = {name: OPTIONS[name] for name in ("image_size", "resize_size", "keep_aspect")}


def saved(preprocess=SIZES, **source):
    content = {"source": {"sha256": "1", **source}, "preprocess": preprocess}
    return Identity.saved(OPTIONS, {}, "list", content)


def test_absent_entries_have_their_defaults():
    whole = {**SIZES, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"}
    whole["orientation"] = "ignore"
    saved(whole, variant="").require_same(saved(), "x_Last.pdparams")
    saved(whole).require_same(saved(None), "x.json")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (saved(variant="symmetric"), "the edition of the weights, standard, is symmetric"),
        (saved({**SIZES, "mean": (0.5, 0.5, 0.5)}), "mean of the images (0.485, 0.456, 0.406) is now (0.5, 0.5, 0.5)"),
        (saved({**SIZES, "std": (0.5, 0.5, 0.5)}), "std of the images (0.229, 0.224, 0.225) is now (0.5, 0.5, 0.5)"),
        (saved({**SIZES, "interpolation": "bicubic"}), "interpolation of the images bilinear is now bicubic"),
        (saved({**SIZES, "orientation": "exif"}), "orientation of the images ignore is now exif"),
        (saved({**SIZES, "resize_size": 36}), "resize_size of the images 37 is now 36"),
    ],
)
def test_what_differs_is_named_in_one_line(now, words):
    with pytest.raises(UsageError) as failure:
        now.require_same(saved(), "x_Last.pdparams")
    assert str(failure.value) == f"--resume x_Last.pdparams: the run was started with other options: {words}"


def test_a_size_that_is_an_option_is_named_once():
    now = replace(saved({**SIZES, "resize_size": 36}), options={**OPTIONS, "resize_size": 36})
    with pytest.raises(UsageError) as failure:
        now.require_same(saved(), "x_Last.pdparams")
    assert str(failure.value).count("resize_size") == 1

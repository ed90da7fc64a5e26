import copy
import pickle

import numpy as np
import pytest

from checkpoints import checkpoint
from checkpoints.entries import shown
from models import ARCHITECTURES
from utils.errors import WeightsError

INF, HUGE, ARRAY = float("inf"), 10**5000, np.array([1, 2])
SCALER = {
    "scale": np.ones(1, "float32"),
    **dict.fromkeys(("incr_ratio", "decr_ratio"), 2.0),
    **dict.fromkeys(("incr_every_n_steps", "decr_every_n_nan_or_inf", "incr_count", "decr_count"), 3),
    "use_dynamic_loss_scaling": True,
}


def content():
    weight = np.zeros((3, 2), "float32")
    return {
        "model": {"fc.weight": weight},
        "optimizer": {"fc.weight/velocity_0": weight, "regularizer.aux.weight/velocity_0": weight},
        "iter": 3,
        "lr_scheduler": {"last_epoch": 4, "last_lr": 0.01},
        "scaler": {},
        "format_version": 1,
        "arch": "resnet8",
        "classes": ["a", "b"],
        "preprocess": {"image_size": 32, "resize_size": 37, "keep_aspect": False},
        "regularizer": {"name": "smile", "arguments": {"alpha": 0.2}, "state": {"aux.weight": weight}},
        "options": {"max_iters": 9, "batch_size_eval": 8, "seed": 0, "sample_classes": None, "lr": 0.1},
        "metrics": {
            "best": {"step": 2, "acc": 50.0},
            "pending": [{"loss": 1.0, "ce": 1, "hits": 0.5}],
            "seconds": 1.5,
            "lost_seconds": 0.5,
        },
        "ranks": 1,
        "source": {"origin": "imagenet", "sha256": "0", "classes": 5},
    }


def changed(name, value):
    """Return a sound content whose entry `name`, dotted, is `value`."""
    whole = content()
    *parents, last = name.split(".") if not name.startswith("optimizer/") else ["optimizer", name[10:]]
    place = whole
    for key in parents:
        place = place[key]
    place[last] = value
    return whole


CONFIDENCE, CORRECT = np.array([0.5, 0.75, 1], "float32"), np.array([False, True, True])
CALIBRATION = {"temperature": 0.5, "confidence": CONFIDENCE, "correct": CORRECT}

OF_THE_NETWORK = [
    ("calibration", 0.5),
    ("calibration", {"temperature": 0.5}),
    ("calibration", {**CALIBRATION, "temperature": 0.0}),
    ("calibration", {**CALIBRATION, "temperature": float("nan")}),
    ("calibration", {**CALIBRATION, "temperature": "1"}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE.astype("float64")}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE[::-1]}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE * 2}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE * np.nan}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE[:2]}),
    ("calibration", {**CALIBRATION, "correct": [False, True, True]}),
    ("calibration", {**CALIBRATION, "confidence": CONFIDENCE[:0], "correct": CORRECT[:0]}),
    ("arch", ["resnet8"]),
    ("arch", "resnet9"),
    ("classes", [1, 2]),
    ("classes", ARRAY),
    ("classes", {"a": 1, "b": 2}),
    ("classes", ["a", "a"]),
    ("preprocess", "x"),
    ("preprocess", {"side": 32}),
    ("preprocess", {"image_size": None}),
    ("preprocess.image_size", 32.0),
    ("preprocess.image_size", True),
    ("preprocess.image_size", 38),
    ("preprocess.image_size", 0),
    ("preprocess.resize_size", INF),
    ("preprocess.resize_size", HUGE),
    ("preprocess.keep_aspect", [1]),
    ("preprocess.mean", [0.5, 0.5]),
    ("preprocess.mean", ARRAY),
    ("preprocess.mean", [0.5, 0.5, INF]),
    ("preprocess.std", [0.5, 0.5, 0.0]),
    ("preprocess.std", "abc"),
    ("preprocess.interpolation", "nearest"),
    ("preprocess.interpolation", ["bilinear"]),
    ("preprocess.orientation", "upright"),
    ("preprocess.orientation", ["exif"]),
    ("options", "x"),
    ("options.batch_size_eval", "8"),
    ("options.batch_size_eval", 4.0),
    ("options.batch_size_eval", ARRAY),
]
OF_THE_RUN = [
    ("iter", INF),
    ("iter", -5),
    ("iter", 9),
    ("iter", HUGE),
    ("iter", None),
    ("model", {"fc.weight": "x"}),
    ("optimizer", [1]),
    ("optimizer", {"fc.weight/velocity_0": 1.0}),
    ("optimizer/fc.weight/velocity_0", np.zeros((2, 2), "float32")),
    ("optimizer/fc.weight/velocity_0", np.zeros((3, 2), "float64")),
    ("optimizer/fc.weight/velocity_0", np.full((3, 2), np.nan, "float32")),
    ("optimizer/fc.weight/velocity_0", np.full((3, 2), np.inf, "float32")),
    ("optimizer/regularizer.aux.weight/velocity_0", np.zeros(3, "float32")),
    ("lr_scheduler", [1]),
    ("lr_scheduler", None),
    ("lr_scheduler.last_epoch", "x"),
    ("lr_scheduler.last_lr", float("nan")),
    ("scaler", None),
    ("scaler", {"scale": np.ones(1)}),
    ("scaler", {**SCALER, "scale": np.ones(())}),
    ("scaler", {**SCALER, "incr_ratio": "x"}),
    ("metrics", [1]),
    ("metrics.best", None),
    ("metrics.best.step", INF),
    ("metrics.best.acc", "x"),
    ("metrics.seconds", "x"),
    ("metrics.seconds", -1.0),
    ("metrics.lost_seconds", [1]),
    ("metrics.pending", {"loss": 1.0}),
    ("metrics.pending", [{"loss": 1.0}]),
    ("metrics.pending", [{"hits": 1.0}]),
    ("metrics.pending", [{"loss": 1.0, "hits": ARRAY}]),
    ("regularizer", "smile"),
    ("regularizer.name", 3),
    ("regularizer.arguments", {"alpha": ARRAY}),
    ("regularizer.arguments", [("alpha", 1)]),
    ("regularizer.state", {"aux.weight": "x"}),
    ("options", {3: 1}),
    ("options.seed", ARRAY),
    ("options.seed", [[ARRAY]]),
    ("options.seed", HUGE),
    ("options.max_iters", "x"),
    ("ranks", 0),
    ("ranks", ARRAY),
    ("source", "x"),
    ("source.sha256", ARRAY),
]


@pytest.mark.parametrize(("name", "value"), OF_THE_NETWORK, ids=shown)
def test_an_entry_of_another_kind_is_named(name, value):
    with pytest.raises(WeightsError, match=f"a.pdparams: .*the entry {name.split('.')[0]}.*accepted: ") as caught:
        checkpoint.validate(changed(name, value), "a.pdparams")
    assert len(str(caught.value)) < 250 + (len(", ".join(ARCHITECTURES)) if name == "arch" else 0)
    with pytest.raises(WeightsError):
        checkpoint.validate_run(changed(name, value), "a.pdparams")


@pytest.mark.parametrize(("name", "value"), OF_THE_RUN, ids=shown)
def test_an_entry_that_a_run_cannot_go_on_from_is_named(name, value):
    culprit = "optimizer: " + name[10:] if name.startswith("optimizer/") else name.split(".")[0]
    with pytest.raises(WeightsError, match=f"a.pdparams: .*the entry {culprit}.*accepted: ") as caught:
        checkpoint.validate_run(changed(name, value), "a.pdparams")
    assert len(str(caught.value)) < 250


REQUIRED = {"model", "iter", "optimizer", "lr_scheduler", "scaler", "metrics", "regularizer", "options"}


@pytest.mark.parametrize("name", content())
def test_entries_may_be_absent_where_older_checkpoints_have_none(name):
    whole = content()
    del whole[name]
    checkpoint.validate(whole, "a.pdparams")
    if name in REQUIRED:
        with pytest.raises(WeightsError, match=f"the entry {name}.* is missing"):
            checkpoint.validate_run(whole, "a.pdparams")
    else:
        checkpoint.validate_run(whole, "a.pdparams")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scaler", SCALER),
        ("source", None),
        ("metrics.best", {"step": 0, "acc": -1.0}),
        ("metrics.pending", []),
        ("optimizer", {}),
        ("iter", 0),
        ("calibration", None),
        ("calibration", CALIBRATION),
        ("classes", None),
        ("classes", ("b", "a")),
        ("preprocess", {"image_size": 224}),
        ("options.batch_size_eval", None),
        ("options.extra", ["x", None, (1, 2.5)]),
    ],
    ids=shown,
)
def test_everything_that_runs_write_is_accepted(name, value):
    whole = changed(name, value)
    before = copy.deepcopy(whole)
    checkpoint.validate(whole, "a.pdparams")
    checkpoint.validate_run(whole, "a.pdparams")
    assert pickle.dumps(before) == pickle.dumps(whole)


def test_the_references_entries_are_enough_to_score():
    whole = {"model": {}, "optimizer": {"conv2d_0.w_0_velocity_0": np.zeros(3)}, "iter": 5, "lr_scheduler": {}}
    checkpoint.validate(whole, "a.pdparams")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (32.0, "32.0"),
        ("x" * 1000, "'" + "x" * 59 + "..."),
        (-HUGE, "an integer of 16610 bits"),
        (np.zeros((2, 3), "f4"), "an array of float32 [2, 3]"),
        ([1], "a list of 1 items"),
    ],
    ids=shown,
)
def test_any_value_is_shown_in_a_few_words(value, text):
    assert shown(value) == text

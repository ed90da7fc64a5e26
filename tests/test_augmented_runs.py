"""Runs of `finetune.py` with every option for the draws of images at once, and with those of the optimizer too."""

from __future__ import annotations

import numpy as np
import pytest

import finetune
from checkpoints import pdparams
from tests.interrupted import Crash, crashing
from tests.pictures import picture, sideways, write_folder
from tests.scripts import tiny
from training.step import train_step
from utils.errors import UsageError

ALL = ("--augment", "resized_crop,flip,trivial,jitter,erase", "--label_smoothing", 0.1)
TRAINER = ("--schedule", "cosine", "--warmup", 2, "--optimizer", "adamw", "--layer_decay", 0.8, "--lr", 0.001)
TRAINER += ("--clip_norm", 1, "--patience", 3)


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "dataset" / "train", count=4)
    for number in range(4, 9):
        sideways(tmp_path / "dataset" / "train" / "emu" / f"{number}.jpg", picture(number, 2, (50, 36)))
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    return tmp_path


def train(save, *more):
    flags = ("--regularizer", "mixup", "--pretrained", "none", "--name", "pets", "--save", save)
    return finetune.main(tiny(*flags, *more))


def weights(save):
    return pdparams.load(f"{save}/pets_mixup_Last.pdparams")["model"]


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("balance, more", [("draws", ()), ("loss", ()), ("draws", TRAINER), ("loss", TRAINER)])
def test_a_crashed_run_ends_with_the_same_bits(balance, more, monkeypatch):
    flags = (*ALL, "--balance", balance, *more)
    summary = train("whole", *flags)
    assert (summary.options["augment"], summary.options["balance"]) == (ALL[1], balance)
    monkeypatch.setattr(finetune, "train_step", crashing(4, Crash()))
    with pytest.raises(Crash):
        train("half", *flags)
    monkeypatch.setattr(finetune, "train_step", train_step)
    with pytest.raises(UsageError, match=f"--augment {ALL[1]} is now crop,flip, --balance {balance} is now none"):
        train("half", "--resume", "--label_smoothing", 0.1, *more)
    train("half", "--resume", *flags)
    whole, half = (pdparams.load(f"{side}/pets_mixup_Last.pdparams") for side in ("whole", "half"))
    assert same(whole["model"], half["model"])
    assert same(whole["optimizer"], half["optimizer"])


def test_each_option_changes_a_run_and_the_defaults_spelled_out_do_not():
    short = ("--max_iters", 2, "--eval_frequency", 2)
    train("plain", *short)
    train("spelled", *short, "--augment", "crop,flip", "--balance", "none", "--label_smoothing", 0)
    assert same(weights("plain"), weights("spelled"))
    for number, flags in enumerate((("--augment", "crop,flip,jitter"), ("--balance", "draws"), ("--balance", "loss"))):
        train(f"other{number}", *short, *flags)
        assert not same(weights("plain"), weights(f"other{number}")), flags
    train("ignored", *short, "--orientation", "ignore")
    assert not same(weights("plain"), weights("ignored"))


def test_a_list_that_crops_nothing_is_one_line():
    with pytest.raises(UsageError, match="--augment flip: it crops no image; accepted is a list with crop or resized_"):
        train("never", "--augment", "flip")

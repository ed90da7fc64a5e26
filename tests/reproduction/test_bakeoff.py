"""The bake-off: every method on a person's own folder, ranked on images that none was trained on."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex

import paddle
import pytest
import yaml

import regularizers
from models import build
from reproduction import needs, report
from reproduction.recipes import load
from reproduction.runs import Run
from tests.pictures import write_folder
from tests.scripts import ROOT, call, forked, run
from training import parsing
from utils.errors import UsageError

BAKEOFF = ROOT / "recipes" / "bakeoff.yaml"


def runs(out, recipe=None):
    recipe = recipe or load(BAKEOFF)
    return [Run(recipe, cell, 0, "photos", out) for cell in recipe.cells()]


def pretend(made, accuracy, seconds, count=400):
    """Write what a finished run leaves behind."""
    made.save.mkdir(parents=True)
    summary = {"last": {"step": 9000, "acc": accuracy}, "best": {"step": 500, "acc": 99.0}, "seconds": seconds}
    summary.update(samples_sha256="sum", scored_on={"folder": "photos/train", "images": count})
    summary["options"] = {**vars(made.parsed()), "train_dir": "photos/train"}
    made.file(".json").write_text(json.dumps(summary))


def test_every_method_is_there_with_the_same_budget(tmp_path):
    asked = [made.parsed() for made in runs(tmp_path)]
    assert [each.regularizer for each in asked] == list(regularizers.REGULARIZERS)
    for each in asked:
        assert (each.max_iters, each.batch_size, each.lr, each.lr_drop, each.val_split) == (9000, 48, 0.01, 6666, 0.2)
        assert each.method == parsing.parse(["--regularizer", each.regularizer, "--train_dir", "photos/train"]).method
        assert each.train_dir == "photos/train"


def test_only_the_training_folder_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(needs, "locate", lambda pretrained, arch: None)
    found = set(map(str, needs.obstacles(runs(tmp_path)).values()))
    assert found == {"mine: no folder photos/train; expected: photos/train/CLASS/"}
    os.makedirs("photos/train")
    assert needs.obstacles(runs(tmp_path)) == {}


def test_methods_are_ranked_with_their_cost_and_the_command_to_keep(tmp_path):
    accuracies = {"l2": (70.0, 60.4), "smile": (80.0, 120.6), "mixup": (80.0, 66.0), "fe": (64.0, 30.0)}
    for made in runs(tmp_path):
        if made.cell.method in accuracies:
            pretend(made, *accuracies[made.cell.method])
    table = report.write(load(BAKEOFF), tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    assert rows[0] == ["method", "measured", "seeds", "seconds a run"]
    assert rows[1:6] == [
        ["Mixup", "80.00", "1", "66"],
        ["SMILE", "80.00", "1", "121"],
        ["L2", "70.00", "1", "60"],
        ["FE", "64.00", "1", "30"],
        ["CutMix", "", "", ""],
    ]
    assert len(rows) == 12
    assert "First is Mixup. On 400 images an accuracy like this has a standard error of 2.0 points" in table
    (first,) = (made for made in runs(tmp_path) if made.cell.method == "mixup")
    assert f"To keep: `{first.file('_Last.pdparams')}`" in table
    (command,) = re.findall(r"^    python finetune.py (.*)$", table, re.MULTILINE)
    again, before = vars(parsing.parse(shlex.split(command))), vars(first.parsed())
    places = {"name", "run", "save", "log_dir", "resume"}
    assert {name for name in before if before[name] != again[name]} <= places


def test_nothing_is_chosen_where_nothing_was_run(tmp_path):
    table = report.write(load(BAKEOFF), tmp_path)
    assert "First is" not in table
    assert "0 finished runs; 0 of 11 cells" in table


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("last.acc}", "best.acc}", "methods must not be chosen on test images"),
        ("last.acc}", "test.acc}\nscores: {test: {images: test}}", "methods must not be chosen on test images"),
        ("  val_split: 0.2\n", "", "methods must not be chosen on test images"),
        ("ranked: true", "ranked: yes", "ranked: .yes.: accepted are true and false"),
        ("ranked: true", "scores: {own: {images: train}}", "with a score on the train images"),
    ],
)
def test_a_ranking_on_test_images_is_refused(old, new, said, tmp_path):
    text = BAKEOFF.read_text()
    assert old in text
    (tmp_path / "other.yaml").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=said):
        load(tmp_path / "other.yaml")


def small(folder):
    """Write the recipe for a small network and few updates, images and source weights; return the recipe's name."""
    write_folder(folder / "photos" / "train", count=10)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "source.pdparams"))
    recipe = yaml.load(BAKEOFF.read_text(), yaml.BaseLoader)
    recipe["options"].update(model_arch="resnet8", image_size="32", pretrained="source.pdparams", max_iters="4")
    recipe["options"].update(batch_size="8", lr_drop="3", eval_frequency="2")
    recipe["methods"]["smile"]["options"]["clean_tail"] = "1"
    recipe["threads"] = "1"
    (folder / "small.yaml").write_text(yaml.dump(recipe, sort_keys=False))
    return "small.yaml"


def bake(folder, start, *flags):
    done = start(small(folder), "--data_root", "photos", "--gpus", "-1,-1", *flags, cwd=folder, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (command,) = re.findall(r"^    python finetune.py (.*)$", done.stdout, re.MULTILINE)
    (checkpoint,) = re.findall(r"^To keep: `(.*)`", done.stdout, re.MULTILINE)
    return done.stdout, shlex.split(command), folder / checkpoint


def test_the_command_makes_the_kept_run_again(tmp_path):
    _, command, checkpoint = bake(tmp_path, functools.partial(run, "reproduce.py"), "--only", "method=l2")
    again = call("finetune.py", *command, "--gpu", "-1", "--name", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    kept, made = paddle.load(str(checkpoint))["model"], paddle.load(str(tmp_path / "output/again_l2_Last.pdparams"))
    assert all((kept[name] == made["model"][name]).all() for name in kept)


@pytest.mark.slow
def test_every_method_is_run(tmp_path):
    said, _, checkpoint = bake(tmp_path, forked)
    assert "11 finished runs; 11 of 11 cells have a number." in said
    assert checkpoint.exists()

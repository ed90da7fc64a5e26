"""Cross-validation: every image once, by a network that never saw it; resumed, and with an honest interval."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finetune
import training.folds
from tests.interrupted import Crash
from tests.pictures import write_folder
from training.folds import interval
from training.step import train_step
from utils.errors import UsageError

WORDS = "--model_arch resnet8 --image_size 32 --batch_size 8 --batch_size_eval 16 --gpu -1 --pretrained none"
FLAGS = f"{WORDS} --regularizer l2 --train_dir pets/train --name pets --max_iters 2".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets" / "train", count=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows():
    return list(csv.DictReader(Path("output/pets_l2_folds.csv").read_text().splitlines()))


def test_every_image_is_scored_once_by_a_network_that_did_not_see_it(folder, capsys):
    pooled = finetune.main([*FLAGS, "--folds", "3"])
    images = {path.relative_to("pets/train").as_posix() for path in Path("pets/train").rglob("*.png")}
    assert sorted(row["path"] for row in rows()) == sorted(images)
    for number in (1, 2, 3):
        trained = {
            Path(line).as_posix() for line in Path(f"output/pets_fold{number}_l2_samples.txt").read_text().split()
        }
        held = {row["path"] for row in rows() if row["fold"] == str(number)}
        assert len(held) == 4
        assert not {path for path in held if any(line.endswith(path) for line in trained)}
    assert len(Path("output/pets_l2_samples.txt").read_text().split()) == 12
    correct = sum(row["correct"] == "1" for row in rows())
    assert pooled.scores["acc"] == pytest.approx(100 * correct / 12)
    assert pooled.class_acc.keys() == {"cat", "dog", "emu"}
    assert json.loads(Path("output/pets_l2_folds.json").read_text())["folds"] == 3
    said = capsys.readouterr().out
    assert f"{pooled.scores['acc']:.2f} % of 12 images by 3 folds, 95 % interval" in said
    assert "on the images that it was trained on" in said


def test_each_fold_is_an_ordinary_run():
    finetune.main([*FLAGS, "--folds", "2"])
    whole = json.loads(Path("output/pets_fold2_l2.json").read_text())
    alone = finetune.main([*FLAGS[:-3], "alone", *FLAGS[-2:], "--fold", "2/2"])
    assert alone.last == whole["last"]
    assert alone.scored_on["held_out"]


def test_killed_and_resumed_it_is_the_same(monkeypatch):
    pooled = finetune.main([*FLAGS, "--folds", "2", "--save", "whole"])
    fold1 = iter([None] * 3)  # its two updates and the first one of the second fold

    def step(*arguments):
        if next(fold1, "crash"):
            raise Crash
        return train_step(*arguments)

    monkeypatch.setattr(finetune, "train_step", step)
    flags = [*FLAGS, "--folds", "2", "--save_frequency", "1"]
    with pytest.raises(Crash):
        finetune.main(flags)
    monkeypatch.setattr(finetune, "train_step", train_step)
    assert finetune.main([*flags, "--resume"]).scores == pooled.scores
    assert Path("output/pets_l2_folds.csv").read_text() == Path("whole/pets_l2_folds.csv").read_text()


def test_what_is_learned_by_heart_is_chance_on_the_other_side(folder):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "emu"):
        for number in range(16):
            (folder / "noise" / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (8, 8, 3), dtype="uint8")
            Image.fromarray(pixels).resize((36, 36), Image.NEAREST).save(folder / "noise" / name / f"{number}.png")
    words = [*FLAGS[:-1], "60", "--train_dir", "noise", "--batch_size", "16", "--lr", "0.05", "--folds", "2"]
    pooled = finetune.main(words)
    assert json.loads(Path("output/pets_l2.json").read_text())["last"]["acc"] > 90  # of the images it was trained on
    assert pooled.low <= 100 / 3 <= pooled.high


@pytest.mark.parametrize("count", [20, 100])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_interval_covers_the_truth(count, share):
    draws = np.random.default_rng(0).binomial(count, share, 20000)
    bounds = {correct: interval(correct, count) for correct in range(count + 1)}
    covered = np.mean([bounds[correct][0] <= 100 * share <= bounds[correct][1] for correct in draws])
    assert 0.92 <= covered <= 0.985


@pytest.mark.parametrize(
    "correct, count, expected", [(0, 10, (0.0, 27.753)), (10, 10, (72.247, 100)), (81, 263, (25.53, 36.62))]
)
def test_published_intervals(correct, count, expected):
    assert interval(correct, count) == pytest.approx(expected, abs=0.01)  # the last one: Newcombe 1998, table I


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--folds 1", "--folds: '1': accepted is a whole number from 2"),
        ("--folds 13", "--folds 13: accepted with 12 images is up to 12"),
        ("--folds 2 --dry_run", "--folds trains: accepted without"),
        ("--folds 2 --val_split 0.2", "--val_split and --folds: give one of them"),
        ("--fold 3/2", "--fold: '3/2': accepted is I/K"),
        ("--fold 1", "--fold: '1': accepted is I/K"),
    ],
)
def test_what_makes_no_folds_is_one_line(flags, message):
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        finetune.main([*FLAGS, *flags.split()])
    assert message in str(caught.value)


def test_a_class_with_one_image_cannot_be_held_out(folder):
    for path in sorted((folder / "pets/train/dog").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="classes of two or more images; one has dog"):
        finetune.main([*FLAGS, "--folds", "2"])


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(UsageError, match="--folds: accepted with one process"):
        training.folds.cross_validate(finetune.parse([*FLAGS, "--folds", "2"]), finetune.run)
